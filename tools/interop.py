"""What the checks against other programs share: an environment for their packages, and thimble's command line."""

import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
QUIET = {**os.environ, "TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"}
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "thimble")

# Sentences with digits, accents and other scripts, cut into windows of tokens.
TEXT = """In 1935 the river rose by 3.5 metres near the old bridge. "It was," said the keeper, "the highest since 1894."
def area(radius):
    return 3.14159 * radius ** 2  # in square metres
Le café était déjà fermé; nous avons marché jusqu'à la gare.
Snow fell on the town all night, and in the morning the children built three men of it, each taller than the last.
The receipt said 2 loaves at 4.20 each and one jar of honey; she paid with a note of 20 and counted the change twice.
"""


def add_arguments(parser):
    parser.add_argument("--thimble", default=os.path.join(ROOT, "build/release/thimble"), help="the program")
    parser.add_argument("--model", default=os.path.join(CACHE, "smollm2-135m.gguf"), help="GGUF model, ./dev model")
    parser.add_argument("--venv", default=os.path.join(CACHE, "venv"), help="folder of the Python environment")
    parser.add_argument("--keep", help="work in this folder and keep it")


def environment(folder, packages):
    """Path of a Python that can import all `packages` (import name -> pip's name); installs what is missing."""
    python = os.path.join(folder, "bin", "python")
    if not os.path.exists(python):
        print(f"making the environment {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    for module, name in packages.items():
        there = f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{module}') is None)"
        if subprocess.run([python, "-c", there], capture_output=True).returncode != 0:
            print(f"installing {name} into {folder}", flush=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", name], check=True)
    return python


def enter_environment(folder, packages):
    """Goes on under that environment's Python, when this is another."""
    python = environment(folder, packages)
    if os.path.realpath(sys.prefix) != os.path.realpath(folder):
        os.execve(python, [python, *sys.argv], QUIET)


def run_worker(python, script, step, arguments):
    """Runs `script` again under `python` to do one step; gives what it answers."""
    with tempfile.NamedTemporaryFile(suffix=".json") as answer:
        done = subprocess.run([python, script, "--worker", step, json.dumps(arguments), answer.name], env=QUIET,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            sys.exit(f"{os.path.basename(script)}, step {step}, failed:\n{done.stdout}")
        return json.load(open(answer.name))


def is_worker(steps):
    """In a worker: does its step, writes the answer, and gives True."""
    if sys.argv[1:2] != ["--worker"]:
        return False
    step, arguments, answer = sys.argv[2:5]
    with open(answer, "w") as file:
        json.dump(steps[step](**json.loads(arguments)), file)
    return True


def thimble(program, *arguments, **options):
    """Its standard output; an error message of its own ends the check."""
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"thimble {arguments[0]} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def token_ids(program, model, text):
    return json.loads(thimble(program, "tokenize", "--model", model, "--json", input=text))


def finetune(program, model, folder, steps):
    """A LoRA adapter after a few steps on examples/receipts."""
    print(f"fine-tuning {steps} steps", flush=True)
    thimble(program, "finetune", "--model", model, "--data", os.path.join(ROOT, "examples/receipts/train.jsonl"),
            "--precision", "f32", "--steps", steps, "--context", 256, "--batch", 2, "--warmup", 0, "--lr", "2e-3",
            "--out", folder)
    return os.path.join(folder, "adapter")


def windows_of(program, model, text_file, context):
    ids = token_ids(program, model, open(text_file, encoding="utf-8").read())
    return [ids[i:i + context] for i in range(0, len(ids) - context + 1, context)]


def has_logits(program):
    return "--logits" in thimble(program, "eval", "--help")


def evaluate(program, model, text_file, context, adapter=None, logits=None):
    """Mean negative log-likelihood of every window of `context` tokens; writes the logits too when asked to."""
    arguments = ["eval", "--model", model, "--data", text_file, "--context", context, "--precision", "f32", "--json"]
    arguments += ["--adapter", adapter] if adapter else []
    if logits:  # takes the place of the metric
        thimble(program, *arguments, "--logits", logits)
    for line in thimble(program, *arguments).splitlines():
        event = json.loads(line)
        if event.get("event") == "eval":
            return event["windows"]
    sys.exit("thimble eval gave no result")


class Report:
    """Prints each comparison and remembers whether one failed."""

    def __init__(self):
        self.failed = 0

    def check(self, what, good, figures):
        print(f"{'ok    ' if good else 'FAILED'}  {what}: {figures}", flush=True)
        self.failed += not good

    def at_most(self, what, figure, bound):
        self.check(what, figure <= bound, f"{figure:.3g} (at most {bound:g})")

    def same_logits(self, what, nll, expected, difference):
        """difference: of the logits, or None where thimble did not write them."""
        if difference is None:
            print(f"        {what}: this thimble writes no logits, so likelihoods are compared only")
        else:
            self.at_most(f"{what}, largest difference of a logit", difference, 1e-3)
        worst = max(abs(a - b) for a, b in zip(nll, expected, strict=True))
        self.at_most(f"{what}, largest difference in nll of {len(nll)} windows, nats", worst, 1e-4)

    def end(self):
        print("all agree" if self.failed == 0 else f"{self.failed} comparisons failed")
        sys.exit(self.failed != 0)
