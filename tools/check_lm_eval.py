#!/usr/bin/env python3
"""`thimble eval --metric choice` against lm-evaluation-harness on the same model and questions.

The harness's own tasks are run, with its own prompts, on files here in the shapes that the benchmarks are published in:
a few questions of each written for this check, and PIQA's where --piqa names its valid.jsonl. Two models: SmolLM2
(dequantised to f32), whose tokenizer adds nothing, and a tiny random one whose tokenizer begins with BOS. Accuracy and
normalised accuracy must be equal, and the log-likelihood of every choice within 1e-3. Exit code 1 when they are not.
"""

import argparse
import json
import os
import sys
import tempfile

import interop

PACKAGES = {"torch": "torch", "transformers": "transformers", "lm_eval": "lm-eval", "accelerate": "accelerate",
            "datasets": "datasets"}
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    interop.add_arguments(parser)
    parser.add_argument("--piqa", default=os.path.join(interop.ROOT, "../shared/data/piqa/valid.jsonl"))
    parser.add_argument("--limit", type=int, default=24, help="questions of PIQA")
    options = parser.parse_args()
    interop.enter_environment(options.venv, PACKAGES)

import lm_eval
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM

CLOSE = 1e-3
QUESTIONS = {
    "hellaswag": [
        dict(activity_label="Washing dishes", ctx_a="A man fills a sink with hot water.", ctx_b="he", label="2", endings=[
            "paints the wall with a roller.", "throws the plates out of the window.",
            "washes the plates with a sponge and rinses them.", "goes  to sleep [substeps] in the sink."]),
        dict(activity_label="Education and Communications", ctx_a="[header] How to write a letter [title] Find a pen."
             " [step] Look in the drawer.", ctx_b="", label="0", endings=[
                 "[title] Find paper. [step] Any sheet will do.", "Eat the pen.", "Close the drawer  and cry.", "A b"]),
        dict(activity_label="Cycling", ctx_a="Two women ride along the coast.", ctx_b="THEY STOP", label=1, endings=[
            "inside the sea.", "at a café to drink something.", "and the bicycles sing.", "before they began."]),
    ],
    "arc_easy": [
        dict(question="Which of these is a liquid at room temperature?", answerKey="B",
             choices=dict(text=["iron", "water", "oxygen", "salt"], label=["A", "B", "C", "D"])),
        dict(question="How many legs does a spider have?", answerKey="3",
             choices=dict(text=["four", "six", "eight"], label=["1", "2", "3"])),
        dict(question="What do plants take from the air? ", answerKey="C",
             choices=dict(text=["Nitrogen gas for their leaves", "stones", "Carbon dioxide", "light"],
                          label=["A", "B", "C", "D"])),
    ],
    "openbookqa": [
        dict(question_stem="A magnet will pull", answerKey="D",
             choices=dict(text=["a wooden spoon", "a glass of milk", "paper", "an iron nail"], label=list("ABCD"))),
        dict(question_stem="The sun is the source of energy for nearly all", answerKey="A",
             choices=dict(text=["living things", "clocks", "batteries in drawers", "stones"], label=list("ABCD"))),
    ],
    "winogrande": [
        dict(sentence="The cup did not fit into the box because the _ was too large.", option1="cup", option2="box",
             answer="1"),
        dict(sentence="Ann thanked Mary since _ had helped her.", option1="Ann", option2="Mary", answer="2"),
        dict(sentence="He poured water from the jug into the glass until the _ was full.", option1="jug",
             option2="glass", answer="2"),
    ],
    "boolq": [
        dict(passage="Snow -- Snow is frozen water that falls from clouds.", question="is snow made of water", label=1),
        dict(passage="Iron -- Iron is a metal. It sinks in water.", question="does iron float on water", label=0),
    ],
    "sciq": [
        dict(question="What is the boiling point of water at sea level in degrees Celsius?", distractor1="50",
             distractor2="75", distractor3="150", correct_answer="100", support="Water boils at 100 degrees. "),
        dict(question="What organ pumps blood?", distractor1="the liver", distractor2="the lung", distractor3="the skin",
             correct_answer="the heart", support=""),
    ],
    "mmlu_anatomy": [
        dict(question="How many bones has the adult human hand?", subject="anatomy", answer=2,
             choices=["12", "19", "27", "40"]),
        dict(question="  Which bone is in the thigh?", subject="anatomy", answer=0,
             choices=["femur", "ulna", "tibia", "radius"]),
    ],
}


def write_lines(path, records):
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)
    return path


def question_files(folder):
    """Of each task the file as thimble reads it, and as the harness does."""
    files = {}
    for task, records in QUESTIONS.items():
        path = write_lines(os.path.join(folder, f"{task}.jsonl"), records)
        files[task] = (path, path)
    if os.path.exists(options.piqa):  # labels are in a file beside it
        lines = open(options.piqa, encoding="utf-8").read().splitlines()[:options.limit]
        labels = open(options.piqa.replace(".jsonl", "-labels.lst")).read().split()
        joined = [{**json.loads(line), "label": int(label)} for line, label in zip(lines, labels)]
        files["piqa"] = (options.piqa, write_lines(os.path.join(folder, "piqa.jsonl"), joined))
    return files


def local_task(manager, task, path):
    """The harness's task, its data being a file here."""
    config = load_yaml(manager._index[task].yaml_path)
    for field in ("training_split", "validation_split", "fewshot_split", "fewshot_config", "tag", "group", "dataset_name"):
        config.pop(field, None)
    return {**config, "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": path}}, "test_split": "test",
            "num_fewshot": 0}


def of_harness(model, task, path):
    manager = TaskManager()
    answer = lm_eval.simple_evaluate(model=model, tasks=[local_task(manager, task, path)], log_samples=True,
                                     bootstrap_iters=0, task_manager=manager)
    name = next(iter(answer["samples"]))
    figures = answer["results"][name]
    samples = sorted(answer["samples"][name], key=lambda sample: sample["doc_id"])
    return ([[float(one[0]) for one in sample["filtered_resps"]] for sample in samples], figures.get("acc,none"),
            figures.get("acc_norm,none"))


def of_thimble(model, path, folder, limit):
    out = os.path.join(folder, "samples.jsonl")
    said = interop.thimble(options.thimble, "eval", "--metric", "choice", "--model", model, "--data", path, "--precision",
                           "f32", "--multiply", "f32", "--out", out, "--limit", limit, "--json")
    result = next(event for event in map(json.loads, said.splitlines()) if event["event"] == "eval")
    samples = [json.loads(line)["log_likelihoods"] for line in open(out)]
    return samples, result["accuracy"], result["accuracy_norm"]


def smollm2(folder):
    interop.thimble(options.thimble, "convert", "--model", options.model, "--to", "safetensors", "--codec", "f32", "--out",
                    folder)


def with_bos(folder):
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<s>", "</s>"])
    made.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 256)])
    torch.manual_seed(3)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=258, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                                         num_attention_heads=4, max_position_embeddings=2048, bos_token_id=256,
                                         eos_token_id=257))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.08)
    model.save_pretrained(folder)
    made.save(os.path.join(folder, "tokenizer.json"))
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as file:
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}, file)


def main():
    report = interop.Report()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.keep or temporary
        os.makedirs(work, exist_ok=True)
        files = question_files(work)
        for name, make in (("SmolLM2", smollm2), ("tiny with BOS", with_bos)):
            folder = os.path.join(work, name.replace(" ", "-"))
            make(folder)
            model = HFLM(pretrained=folder, device="cpu", dtype="float32", batch_size=1)
            for task, (ours_file, theirs_file) in files.items():
                theirs, acc, acc_norm = of_harness(model, task, theirs_file)
                ours, accuracy, accuracy_norm = of_thimble(folder, ours_file, work, len(theirs))
                worst = max(abs(a - b) for one, other in zip(ours, theirs, strict=True)
                            for a, b in zip(one, other, strict=True))
                what = f"{name}, {task}, {len(ours)} questions"
                report.at_most(f"{what}, largest difference of a log-likelihood", worst, CLOSE)
                same = abs(acc - accuracy) < 1e-6 and (acc_norm is None or abs(acc_norm - accuracy_norm) < 1e-6)
                report.check(f"{what}, accuracy", same, f"{accuracy:.4f} {accuracy_norm:.4f} against {acc} {acc_norm}")
    report.end()


if __name__ == "__main__":
    main()
