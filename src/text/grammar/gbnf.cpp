// GBNF: rules `name ::= expression`, where an expression is made of "text", [sets], names, ( ), |, *, +, ?, {m,n} and
// a full stop for any character; # begins a comment. Repetition becomes rules of its own.
#include <algorithm>
#include <map>

#include "text/grammar/grammar.h"
#include "text/grammar/utf8_ranges.h"
#include "text/utf8.h"

namespace thimble {

class GrammarParser {
 public:
  explicit GrammarParser(std::string_view source) : source_(source) {}

  Result<Grammar> run() {
    skip(true);
    while (at_ < source_.size()) CHECK_OK(rule());
    for (const auto& [name, id] : names_)
      if (defined_.size() <= id || !defined_[id])
        return fail(ErrorCode::invalid_argument, "the grammar names the rule '{}' and does not define it", name);
    const auto root = names_.find("root");
    if (root == names_.end()) return fail(ErrorCode::invalid_argument, "the grammar has no rule 'root'");
    Grammar grammar;
    grammar.root_ = static_cast<int32_t>(root->second);
    lay_out(grammar);
    CHECK_OK(check_recursion());
    return grammar;
  }

 private:
  struct Symbol {
    bool is_rule;
    int32_t index;
  };
  using Sequence = std::vector<Symbol>;
  using Alternatives = std::vector<Sequence>;

  static constexpr size_t kMostRules = 1 << 15;
  static constexpr size_t kMostSymbols = 1 << 20;
  static constexpr int kDeepest = 64;
  static constexpr uint32_t kMostRepeats = 2000;

  Failure wrong(std::string_view what) const {
    const auto line = 1 + std::ranges::count(source_.substr(0, at_), '\n');
    return fail(ErrorCode::invalid_argument, "the grammar, line {}: {}, found '{}'", line, what,
                source_.substr(at_, std::min<size_t>(20, source_.find('\n', at_) - at_)));
  }

  void skip(bool lines) {
    while (at_ < source_.size()) {
      const char c = source_[at_];
      if (c == '#') {
        at_ = std::min(source_.find('\n', at_), source_.size());
      } else if (c == ' ' || c == '\t' || c == '\r' || (lines && c == '\n')) {
        ++at_;
      } else {
        return;
      }
    }
  }
  bool next(std::string_view what) {
    if (!source_.substr(at_).starts_with(what)) return false;
    at_ += what.size();
    return true;
  }
  static bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  }
  std::string name() {
    const size_t begin = at_;
    while (at_ < source_.size() && is_name(source_[at_])) ++at_;
    return std::string(source_.substr(begin, at_ - begin));
  }
  size_t id_of(const std::string& name) {
    const auto [at, added] = names_.emplace(name, bodies_.size());
    if (added) bodies_.emplace_back();
    return at->second;
  }
  Symbol new_rule(Alternatives body) {
    bodies_.push_back(std::move(body));
    return {true, static_cast<int32_t>(bodies_.size() - 1)};
  }

  Result<void> rule() {
    const std::string rule_name = name();
    if (rule_name.empty()) return wrong("expected the name of a rule");
    skip(false);
    if (!next("::=")) return wrong("expected ::=");
    skip(true);
    const size_t id = id_of(rule_name);
    if (defined_.size() <= id) defined_.resize(id + 1);
    if (defined_[id]) return wrong(fmt::format("the rule '{}' is defined twice", rule_name));
    defined_[id] = true;
    Alternatives body = TRY(alternatives(0));
    bodies_[id] = std::move(body);
    skip(false);
    if (at_ < source_.size() && source_[at_] != '\n') return wrong("expected the end of the rule");
    skip(true);
    return {};
  }

  Result<Alternatives> alternatives(int depth) {
    if (depth > kDeepest) return wrong(fmt::format("parentheses lie more than {} deep", kDeepest));
    Alternatives all;
    do {
      skip(true);
      all.push_back(TRY(sequence(depth)));
      skip(depth > 0);
    } while (next("|"));
    return all;
  }

  Result<Sequence> sequence(int depth) {
    Sequence made;
    for (;;) {
      skip(depth > 0);
      if (at_ == source_.size() || std::string_view("|)\n").find(source_[at_]) != std::string_view::npos) return made;
      Sequence item = TRY(this->item(depth));
      CHECK_OK(repeat(item));
      made.insert(made.end(), item.begin(), item.end());
      if ((symbols_ += item.size()) > kMostSymbols || bodies_.size() > kMostRules)
        return fail(ErrorCode::invalid_argument, "the grammar is too large");
    }
  }

  Result<Sequence> item(int depth) {
    if (next("\"")) return literal();
    if (next("[")) return Sequence{TRY(set())};
    if (next(".")) return Sequence{characters({{0, 0x10ffff}})};
    if (next("(")) {
      Alternatives inner = TRY(alternatives(depth + 1));
      skip(true);
      if (!next(")")) return wrong("expected )");
      return Sequence{new_rule(std::move(inner))};
    }
    const std::string reference = name();
    if (reference.empty()) return wrong("expected \"text\", [a set], ( or a name");
    return Sequence{{true, static_cast<int32_t>(id_of(reference))}};
  }

  // x* is r ::= x r | ; x? is r ::= x | ; x{2,3} is x x r with r ::= x |.
  Result<void> repeat(Sequence& item) {
    uint32_t least = 1, most = 1;
    constexpr uint32_t kNoEnd = UINT32_MAX;
    if (next("*")) {
      least = 0, most = kNoEnd;
    } else if (next("+")) {
      most = kNoEnd;
    } else if (next("?")) {
      least = 0;
    } else if (next("{")) {
      least = TRY(count());
      most = least;
      skip(false);
      if (next(",")) {
        skip(false);
        most = source_.substr(at_).starts_with('}') ? kNoEnd : TRY(count());
      }
      skip(false);
      if (!next("}")) return wrong("expected }");
      if (most < least) return wrong("a repetition ends before it begins");
    } else {
      return {};
    }
    // A literal of several characters is repeated as a whole.
    const Sequence once = item.size() == 1 ? item : Sequence{new_rule({item})};
    item.clear();
    for (uint32_t i = 0; i < least; ++i) item.push_back(once[0]);
    if (most == kNoEnd) {
      const Symbol more = new_rule({});
      bodies_[static_cast<size_t>(more.index)] = {{once[0], more}, {}};
      item.push_back(more);
      return {};
    }
    if (most == least) return {};
    Symbol rest = new_rule({{once[0]}, {}});
    for (uint32_t i = least + 1; i < most; ++i) rest = new_rule({{once[0], rest}, {}});
    item.push_back(rest);
    return {};
  }

  Result<uint32_t> count() {
    uint32_t number = 0;
    const size_t begin = at_;
    while (at_ < source_.size() && source_[at_] >= '0' && source_[at_] <= '9' && number <= kMostRepeats)
      number = number * 10 + static_cast<uint32_t>(source_[at_++] - '0');
    if (at_ == begin || number > kMostRepeats) return wrong(fmt::format("expected a number up to {}", kMostRepeats));
    return number;
  }

  Result<uint32_t> character() {
    if (at_ == source_.size()) return wrong("expected a character");
    if (source_[at_] != '\\') {
      const Utf8Char c = decode_utf8(source_, at_);
      if (!c.valid) return wrong("expected UTF-8");
      at_ += c.length;
      return c.code;
    }
    if (++at_ == source_.size()) return wrong("expected a character after \\");
    const char escaped = source_[at_++];
    const size_t digits = escaped == 'x' ? 2 : escaped == 'u' ? 4 : escaped == 'U' ? 8 : 0;
    if (digits > 0) return hexadecimal(digits);
    if (escaped == 'n') return '\n';
    if (escaped == 't') return '\t';
    if (escaped == 'r') return '\r';
    if (std::string_view("\\\"[]-^").find(escaped) != std::string_view::npos)
      return static_cast<unsigned char>(escaped);
    return wrong(fmt::format("\\{} is no escape", escaped));
  }

  Result<uint32_t> hexadecimal(size_t digits) {
    uint32_t code = 0;
    for (size_t i = 0; i < digits; ++i, ++at_) {
      const char c = at_ < source_.size() ? source_[at_] : ' ';
      const int value = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (value < 0) return wrong(fmt::format("expected {} hexadecimal digits", digits));
      code = code * 16 + static_cast<uint32_t>(value);
    }
    if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return wrong("that is no character");
    return code;
  }

  Result<Sequence> literal() {
    Sequence made;
    while (!next("\"")) {
      if (at_ == source_.size() || source_[at_] == '\n') return wrong("expected the closing \"");
      const uint32_t code = TRY(character());
      std::string bytes;
      append_utf8(bytes, code);
      for (const char byte : bytes) made.push_back(bytes_symbol({byte_set(byte, byte)}));
    }
    return made;
  }

  struct Range {
    uint32_t first, last;
  };
  Result<Symbol> set() {
    const bool negated = next("^");
    std::vector<Range> ranges;
    while (!next("]")) {
      if (at_ == source_.size() || source_[at_] == '\n') return wrong("expected the closing ]");
      const uint32_t first = TRY(character());
      uint32_t last = first;
      if (source_.substr(at_).starts_with('-') && !source_.substr(at_).starts_with("-]")) {
        ++at_;
        last = TRY(character());
      }
      if (last < first) return wrong("a range ends before it begins");
      ranges.push_back({first, last});
    }
    return characters(negated ? complement(ranges) : ranges);
  }

  static std::vector<Range> complement(std::vector<Range> ranges) {
    std::ranges::sort(ranges, {}, &Range::first);
    std::vector<Range> others;
    uint32_t from = 0;
    for (const Range& range : ranges) {
      if (range.first > from) others.push_back({from, range.first - 1});
      from = std::max(from, range.last + 1);
    }
    if (from <= 0x10ffff) others.push_back({from, 0x10ffff});
    return others;
  }

  static Grammar::Bytes byte_set(char first, char last) {
    Grammar::Bytes set;
    for (unsigned byte = static_cast<unsigned char>(first); byte <= static_cast<unsigned char>(last); ++byte)
      set.set(byte);
    return set;
  }
  Symbol bytes_symbol(const Grammar::Bytes& set) {
    const auto at = std::ranges::find(sets_, set);
    if (at == sets_.end()) return sets_.push_back(set), Symbol{false, static_cast<int32_t>(sets_.size() - 1)};
    return {false, static_cast<int32_t>(at - sets_.begin())};
  }

  // One character of the ranges: a set of bytes where all are ASCII, else a rule of sequences of them.
  Symbol characters(const std::vector<Range>& ranges) {
    Grammar::Bytes ascii;
    Alternatives longer;
    for (const Range& range : ranges)
      for (const ByteSequence& sequence : utf8_sequences(range.first, range.last)) {
        Sequence symbols;
        for (size_t i = 0; i < sequence.length; ++i) {
          const auto set =
              byte_set(static_cast<char>(sequence.bytes[i].first), static_cast<char>(sequence.bytes[i].last));
          if (sequence.length == 1) ascii |= set;
          if (sequence.length > 1) symbols.push_back(bytes_symbol(set));
        }
        if (!symbols.empty()) longer.push_back(std::move(symbols));
      }
    if (longer.empty()) return bytes_symbol(ascii);
    if (ascii.any()) longer.push_back({bytes_symbol(ascii)});
    return new_rule(std::move(longer));
  }

  void lay_out(Grammar& grammar) const {
    using Kind = Grammar::Element::Kind;
    grammar.sets_ = sets_;
    for (const Alternatives& body : bodies_) {
      auto& begins = grammar.rules_.emplace_back();
      for (const Sequence& sequence : body) {
        begins.push_back(static_cast<int32_t>(grammar.elements_.size()));
        for (const Symbol& symbol : sequence)
          grammar.elements_.push_back({symbol.is_rule ? Kind::rule : Kind::bytes, symbol.index});
        grammar.elements_.push_back({Kind::end, 0});
      }
    }
  }

  // A rule may not come to itself before a byte is read.
  Result<void> check_recursion() const {
    std::vector<bool> empty(bodies_.size());  // rules that may read nothing
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t i = 0; i < bodies_.size(); ++i) {
        const auto nothing = [&](const Sequence& sequence) {
          return std::ranges::all_of(sequence, [&](const Symbol& symbol) {
            return symbol.is_rule && empty[static_cast<size_t>(symbol.index)];
          });
        };
        if (!empty[i] && std::ranges::any_of(bodies_[i], nothing)) empty[i] = changed = true;
      }
    }
    enum State : uint8_t { kNew, kOpen, kDone };
    std::vector<State> states(bodies_.size(), kNew);
    for (size_t start = 0; start < bodies_.size(); ++start) {
      std::vector<std::pair<size_t, std::vector<size_t>>> open;  // a rule, and those left that it may begin with
      const auto enter = [&](size_t rule) {
        states[rule] = kOpen;
        std::vector<size_t> firsts;
        for (const Sequence& sequence : bodies_[rule])
          for (const Symbol& symbol : sequence) {
            if (symbol.is_rule) firsts.push_back(static_cast<size_t>(symbol.index));
            if (!symbol.is_rule || !empty[static_cast<size_t>(symbol.index)]) break;
          }
        open.emplace_back(rule, std::move(firsts));
      };
      if (states[start] == kNew) enter(start);
      while (!open.empty()) {
        auto& [rule, firsts] = open.back();
        if (firsts.empty()) {
          states[rule] = kDone;
          open.pop_back();
          continue;
        }
        const size_t first = firsts.back();
        firsts.pop_back();
        if (states[first] == kOpen)
          return fail(ErrorCode::invalid_argument,
                      "the grammar's rule '{}' comes to itself before anything is read (left recursion)",
                      name_of(first));
        if (states[first] == kNew) enter(first);
      }
    }
    return {};
  }

  std::string name_of(size_t rule) const {
    for (const auto& [name, id] : names_)
      if (id == rule) return name;
    return "in parentheses";
  }

  std::string_view source_;
  size_t at_ = 0, symbols_ = 0;
  std::map<std::string, size_t> names_;
  std::vector<bool> defined_;
  std::vector<Alternatives> bodies_;
  std::vector<Grammar::Bytes> sets_;
};

Result<Grammar> Grammar::parse(std::string_view gbnf) {
  constexpr size_t kLongest = 4u << 20;
  if (gbnf.size() > kLongest)
    return fail(ErrorCode::invalid_argument, "the grammar has {} bytes, at most {} are read", gbnf.size(), kLongest);
  return GrammarParser(gbnf).run();
}

}  // namespace thimble
