// The style sheet of report.html.
#pragma once

namespace thimble {

inline constexpr const char* kReportStyle = R"css(
:root{color-scheme:light dark;--page:#fbfaf8;--card:#fff;--ink:#1d2126;--soft:#626b75;--line:#e3e1dc;--accent:#2457a6;--second:#c2410c;
--runtime:#a3a8ae;--weights:#3f6ea8;--states:#82b1dc;--gradients:#d9627a;--inputs:#c9bfae;--kept:#2f8f5b;--working:#9ccb7d;--workspace:#dfb43c;--limit:#b91c1c}
@media(prefers-color-scheme:dark){:root{--page:#15171a;--card:#1d2024;--ink:#e7e9ec;--soft:#98a1ab;--line:#33383e;--accent:#7aa8ee;--second:#f59e5b;
--runtime:#6b7178;--weights:#5583bf;--states:#8fb8de;--gradients:#d76c82;--inputs:#8d8573;--kept:#3f9e6b;--working:#86b26a;--workspace:#caa23a;--limit:#f87171}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
main{max-width:66rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}
h1{font-size:1.75rem;line-height:1.2;font-weight:650;letter-spacing:-.015em;margin:0 0 .3rem;overflow-wrap:anywhere}
h2{font-size:1.15rem;font-weight:650;margin:2.75rem 0 .25rem}
h3{font-size:.875rem;font-weight:600;margin:0 0 .6rem}
p{margin:.25rem 0 1rem;max-width:46rem}
.soft,figcaption{color:var(--soft);font-size:.9rem}
.card,.tiles>div{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:1rem 1.1rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(11.5rem,1fr));gap:.75rem;margin:1.5rem 0 0}
.tiles b{display:block;font-size:1.45rem;font-weight:620;letter-spacing:-.01em;font-variant-numeric:tabular-nums;line-height:1.3}
.tiles span{color:var(--soft);font-size:.85rem}
.grid2{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:.75rem;margin-top:.75rem}
.chart{position:relative;margin:.4rem .3rem 1.5rem 3.6rem;height:11rem}
.chart.tall{height:19rem;margin-left:4rem}
.chart svg{position:absolute;inset:0;width:100%;height:100%;overflow:visible}
.chart span{position:absolute;font-size:.75rem;color:var(--soft);font-variant-numeric:tabular-nums;white-space:nowrap;line-height:1}
.chart .tick{right:calc(100% + .5rem);transform:translateY(-50%)}
.chart .mark{top:calc(100% + .5rem);transform:translateX(-50%)}
.chart .tag{transform:translate(.5rem,-50%);color:var(--ink)}
.chart .level{right:.35rem;transform:translateY(-130%);color:var(--limit);font-weight:600}
polyline,path{fill:none;vector-effect:non-scaling-stroke}
.grid{stroke:var(--line);stroke-width:1}
.curve{stroke:var(--accent);stroke-width:1.75;stroke-linejoin:round}
.evals{stroke:var(--second);stroke-width:1.25;stroke-dasharray:3 3}
.dot{stroke:var(--second);stroke-width:8;stroke-linecap:round}
.budget{stroke:var(--limit);stroke-width:2}
.planned{stroke:var(--limit);stroke-width:1.25;stroke-dasharray:5 4}
.expected{stroke:var(--second);stroke-width:1.25;stroke-dasharray:5 4}
.chart .level.faint{color:var(--soft);font-weight:400}
rect.column{fill:transparent}rect.column:hover{fill:var(--ink);fill-opacity:.13}
.runtime{fill:var(--runtime);background:var(--runtime)}.weights{fill:var(--weights);background:var(--weights)}
.states{fill:var(--states);background:var(--states)}.gradients{fill:var(--gradients);background:var(--gradients)}
.inputs{fill:var(--inputs);background:var(--inputs)}.kept{fill:var(--kept);background:var(--kept)}
.working{fill:var(--working);background:var(--working)}.workspace{fill:var(--workspace);background:var(--workspace)}
.legend{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;font-size:.85rem;color:var(--soft);margin:.5rem 0 0;padding:0;list-style:none}
.key{display:inline-block;width:.75rem;height:.75rem;border-radius:3px;margin-right:.45rem;vertical-align:-.05rem}
.bar{display:flex;position:relative;height:2.6rem;margin:1.6rem 0 1.1rem;background:repeating-linear-gradient(45deg,transparent 0 5px,var(--line) 5px 6px);border:1px solid var(--line)}
.bar i{display:block;height:100%;border-right:1px solid var(--card)}
.bar em{position:absolute;top:-.5rem;bottom:-.5rem;width:0;border-left:2px solid var(--limit);font-style:normal}
.bar em span{position:absolute;right:.2rem;bottom:100%;color:var(--limit);font-size:.78rem;font-weight:600;white-space:nowrap;line-height:1.1}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;padding:.4rem .75rem .4rem 0;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:500}
td:last-child,th:last-child{padding-right:0}
tr:last-child td,tr:last-child th{border-bottom:0}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tr.sum td{font-weight:650}
.settings td{overflow-wrap:anywhere}
.settings th{white-space:nowrap;width:1%;padding-right:1.5rem}
code,pre{font:.85rem/1.5 ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere}
.sample{margin-top:.75rem}.sample dl{display:grid;grid-template-columns:max-content 1fr;gap:.45rem 1rem;margin:0}
.sample dt{color:var(--soft);font-size:.85rem}.sample dd{margin:0;min-width:0}
.right::after{content:"exact";color:var(--kept);font-weight:600;font-size:.8rem}
@media(max-width:36rem){main{padding:1.5rem .9rem 3rem}h1{font-size:1.4rem}.sample dl{grid-template-columns:1fr;gap:.1rem}.sample dd{margin-bottom:.5rem}.chart.tall{height:15rem}}
@media print{body{background:none}.card,.tiles>div{break-inside:avoid}}
)css";

}  // namespace thimble
