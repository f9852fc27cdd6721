"""The single operations of benches/operation.rs in PyTorch, on orders from standard input; see peer.py.

Forward and every gradient, eager, float32, as a network would call them.
"""
import sys

import torch
from safetensors.torch import load_file

from peer import arguments, demand, ordered, relative, serve

TIMES = {"conv3": 4, "conv3-few": 4, "group-norm": 10, "layer-norm": 10, "attention": 10, "attention-long": 2, "geglu": 10, "optimizer": 2}
F = torch.nn.functional


def channels_first(x, layout):
    return ordered(x.permute(0, 3, 1, 2).contiguous(), layout)


def convolution(held, layout):
    x, dy = (channels_first(held[name], layout) for name in ("x", "dy"))
    w, b = ordered(held["w"], layout), held["b"]
    operands = {"x": x, "w": w, "b": b}
    return operands, dy, lambda x, w, b: F.conv2d(x, w, b, padding=1)


def group_norm(held, layout):
    x, dy = (channels_first(held[name], layout) for name in ("x", "dy"))
    operands = {"x": x, "gamma": held["gamma"], "beta": held["beta"]}
    return operands, dy, lambda x, gamma, beta: F.silu(F.group_norm(x, 32, gamma, beta, 1e-5))


def layer_norm(held, layout):
    operands = {name: held[name] for name in ("x", "gamma", "beta")}
    return operands, held["dy"], lambda x, gamma, beta: F.layer_norm(x, x.shape[-1:], gamma, beta, 1e-5)


def attention(heads):
    def prepare(held, layout):
        split = lambda x: x.view(*x.shape[:2], heads, -1).transpose(1, 2)
        join = lambda x: x.transpose(1, 2).flatten(2)
        work = lambda q, k, v: join(F.scaled_dot_product_attention(split(q), split(k), split(v)))
        return {name: held[name] for name in ("q", "k", "v")}, held["dy"], work

    return prepare


def geglu(held, layout):
    def work(x):
        a, gate = x.chunk(2, -1)
        return a * F.gelu(gate)

    return {"x": held["x"]}, held["dy"], work


def optimizer(held):
    parameter = torch.nn.Parameter(held["parameters"])
    average = held["average"].clone()
    adamw = torch.optim.AdamW([parameter], lr=1e-3, weight_decay=0.01, fused=True)

    def step():
        parameter.grad = held["gradient"].clone() if step.first else parameter.grad
        step.first = False
        torch.nn.utils.clip_grad_norm_([parameter], 1.0)
        adamw.step()
        torch._foreach_lerp_([average], [parameter.detach()], 1e-3)

    step.first = True
    step()
    demand("the parameters", relative(held["moved.parameters"], parameter.detach()), 1e-6)
    demand("the average", relative(held["moved.average"], average), 1e-6)
    return step


def work(a):
    name = a.case.removeprefix("op-")
    held = load_file(a.folder / "operands.safetensors") | load_file(a.folder / "results.safetensors")
    times = 1 if a.quick else TIMES[name]
    if name == "optimizer":
        step = optimizer(held)
        return lambda: [step() for _ in range(times)]
    heads = 2 if a.quick else {"attention": 1, "attention-long": 8}.get(name, 1)
    kinds = {"conv3": convolution, "conv3-few": convolution, "group-norm": group_norm, "layer-norm": layer_norm,
             "attention": attention(heads), "attention-long": attention(heads), "geglu": geglu}
    operands, dy, forward = kinds[name](held, a.layout)
    operands = {name: x.requires_grad_() for name, x in operands.items()}

    def once():
        y = forward(*operands.values())
        return y.detach(), torch.autograd.grad(y, list(operands.values()), dy)

    y, gradients = once()
    last = lambda x, name: x.permute(0, 2, 3, 1) if x.dim() == 4 and name != "w" else x
    demand("the output", relative(held["y"], last(y, "y")), 2e-5)
    for name, gradient in zip(operands, gradients):
        demand(f"the gradient of {name}", relative(held[f"d{name}"], last(gradient, name)), 1e-4)

    def rounds():
        for _ in range(times):
            once()

    return rounds


if __name__ == "__main__":
    serve(arguments(__doc__), work)
