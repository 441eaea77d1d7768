"""The PyTorch side of check_learning.py: a technique, and AdamW. Imported by workers only.

A technique is a function of the model and the folder of an adapter: it puts the adapter into the model and gives the
parameters that train, by name, and what a batch adds to the loss (None: nothing).
"""
import json
import os

import peft
import prodigyopt
import torch
import torch.nn.functional as F
from interop_torch import base_model
from safetensors.torch import load_file


def from_peft(model, folder):
    adapted = peft.PeftModel.from_pretrained(model, folder, is_trainable=True)
    return {name: p for name, p in adapted.named_parameters() if p.requires_grad}, None


def full(model, folder):
    model.requires_grad_(True)
    return dict(model.named_parameters()), None


def adapter_of(folder):
    """Its tensors as parameters, and its options."""
    with open(os.path.join(folder, "adapter_config.json"), encoding="utf-8") as file:
        config = json.load(file)
    tensors = load_file(os.path.join(folder, "adapter_model.safetensors"))
    short = {name.removeprefix("base_model.").removeprefix("model."): t for name, t in tensors.items()}
    return {name: torch.nn.Parameter(t.float()) for name, t in short.items()}, config


def behind(model, targets, adapter):
    """adapter(name, y) is added to what the layers with these names make."""
    for name, module in model.named_modules():
        if name.split(".")[-1] in targets:
            module.register_forward_hook(lambda module, x, y, name=name: y + adapter(name, y))


def mixphm(model, folder):
    """jingjing12110/MixPHM: mixphm/phm_moe.py, compacter/hypercomplex, losses/r2_loss.py; without dropout and MI."""
    p, config = adapter_of(folder)
    n, rank = config["hypercomplex_division"], config["phm_rank"]
    rule, seen = p["mixphm.A"], []

    def kronecker(left, right):
        factors = [left[:, i * rank:(i + 1) * rank] @ right[i * rank:(i + 1) * rank] for i in range(n)]
        return sum(torch.kron(rule[i * n:(i + 1) * n], w) for i, w in enumerate(factors))

    def adapter(name, f):
        own = {key.removeprefix(name + ".mixphm_"): value for key, value in p.items() if key.startswith(name + ".")}
        e = torch.randint(config["num_experts"], ()).item()
        down = kronecker(own["down_L"], own["down_R"])
        up = kronecker(own[f"up_L.{e}"], own[f"up_R.{e}"])
        z = F.gelu(F.linear(f, down, own["down_b"]), approximate="tanh")
        made = F.linear(z, up, own[f"up_c.{e}"])
        if config["red_w"] > 0:
            seen.append((made, f))
        return made

    def redundancy(batch):
        loss, layers = 0, len(seen)
        while seen:
            u, v = (torch.cat([rows[:len(ids)] for rows, (ids, _) in zip(x, batch, strict=True)]) for x in seen.pop())
            common = F.normalize(u, dim=1).T @ F.normalize(v, dim=1)
            loss = loss + (common.square().sum() - common.diagonal().square().sum()) / len(batch)
        return config["red_w"] * 3.9e-3 * loss / layers

    behind(model, config["target_modules"], adapter)
    return p, redundancy if config["red_w"] > 0 else None


def hyperformer(model, folder):
    """rabeehk/hyperformer: adapters/adapter_modeling.py, AdapterLayersOneHyperNetController; of one task."""
    p, config = adapter_of(folder)
    p = {name.removeprefix("hyperformer."): value for name, value in p.items()}

    def adapter(name, f):
        place = int("mlp" in name)
        low = sum(F.linear(p[of], p[f"W1.{of.split('.')[0]}"])
                  for of in ("task", f"layer.{name.split('.')[-3]}", f"place.{place}"))
        e = F.linear(torch.relu(low + p["w1"]), p["W2"], p["w2"])
        e = F.layer_norm(e, e.shape[-1:], p["norm.weight"], p["norm.bias"], 1e-6)
        n = f.shape[-1]

        def made(what, *shape):
            return F.linear(e, p[f"{n}.{what}.weight"], p[f"{n}.{what}.bias"]).view(*shape)

        z = F.gelu(F.linear(f, made("down", -1, n), made("down_bias", -1)), approximate="tanh")
        y = F.linear(z, made("up", n, -1), made("up_bias", -1))
        return F.layer_norm(y, (n,), made("gain", n), made("shift", n))

    behind(model, config["target_modules"], adapter)
    return p, None


TECHNIQUES = {"full": full, "lora": from_peft, "vblora": from_peft, "elalora": from_peft,
              "mixphm": mixphm, "hyperformer": hyperformer}


def batch_loss(model, batch):
    """The mean over all learnt tokens. Examples are padded at their ends, which nothing before them sees."""
    longest = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([example + [0] * (longest - len(example)) for example, _ in batch])
    learnt = torch.tensor([[*marks, *[0] * (longest - len(marks))] for _, marks in batch])
    targets = torch.where(learnt[:, 1:] > 0, ids[:, 1:], -100)
    return F.cross_entropy(model(ids).logits[:, :-1].flatten(0, 1).float(), targets.flatten())


def losses_of(batches, folder, adapter, method, optimizer, settings, lr, rates):
    model = base_model(folder)
    torch.set_num_threads(1)
    model.requires_grad_(False)
    parameters, beside = TECHNIQUES[method](model, adapter)
    groups = [{"params": [p], "lr": lr * next((f for part, f in rates if part in name), 1)}
              for name, p in parameters.items()]
    if optimizer == "prodigy":
        names = {"correct_bias": "use_bias_correction", "safeguard_warmup": "safeguard_warmup"}
        flags = {names[key]: bool(int(value)) for key, value in [("correct_bias", 0), *settings]}
        update = prodigyopt.Prodigy(groups, lr=lr, **flags)
    else:
        update = torch.optim.AdamW(groups, lr=lr, weight_decay=0)
    out = []
    for batch in batches:
        update.zero_grad()
        loss = batch_loss(model, batch)
        out.append(loss.item())
        (loss if beside is None else loss + beside(batch)).backward()
        update.step()
    return {"losses": out, "d": update.param_groups[0].get("d")}
