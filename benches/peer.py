"""The cases of benches/main.rs in PyTorch and diffusers, on orders from standard input.

Reads the weights, inputs and results that our side left in --folder, refuses to race when its own results differ,
and then answers `round` with seconds. As a user would write it: eager mode in float32 on the processor; on CUDA, where
the comparison is in true float32 too, channels-last images and autocast to bfloat16, eager or compiled (`compile`).
AdamW in its fused form.
"""
import argparse
import contextlib
import json
import pathlib
import resource
import sys
import time

import torch
from diffusers import DDIMScheduler, UNet2DModel
from safetensors.torch import load_file


DEVICE = torch.device("cpu")


def peak():
    """MiB: of tensors on the device, or of this process."""
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def wait():
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def lower(is_wanted=True):
    """bfloat16 where the device races in it."""
    is_wanted = is_wanted and DEVICE.type == "cuda"
    return torch.autocast("cuda", torch.bfloat16) if is_wanted else contextlib.nullcontext()


def held(path):
    return {name: tensor.to(DEVICE) for name, tensor in load_file(path).items()}


def raced(unet, layout):
    return torch.compile(unet) if layout == "compile" else unet


def relative(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def demand(what, error, tolerance):
    if not error <= tolerance:
        sys.exit(f"peer: {what} differs by {error:.1e}, more than {tolerance:.0e}: nothing to compare")


def network(folder, layout):
    config = json.loads((folder / "config.json").read_text())
    unet = UNet2DModel.from_config({k: v for k, v in config.items() if v is not None or k == "attention_head_dim"})
    unet.load_state_dict(load_file(folder / "diffusion_pytorch_model.safetensors"))
    unet = unet.to(DEVICE)
    if layout != "nchw":
        unet = unet.to(memory_format=torch.channels_last)
    expected = held(folder / "expected.safetensors")
    images = lambda name: ordered(expected[name].permute(0, 3, 1, 2).contiguous(), layout)
    out = unet(images("x"), expected["t"]).sample
    demand("the output", relative(images("out"), out.detach()), 2e-5 if DEVICE.type == "cpu" else 1e-4)
    torch.nn.functional.mse_loss(out, images("noise")).backward()
    for name, parameter in unet.named_parameters():
        # The gradient of a key's bias vanishes but for rounding: measured by that of the key's weight.
        scale = dict(unet.named_parameters())[name.replace("to_k.bias", "to_k.weight")].grad.abs().max()
        error = (expected[f"gradient.{name}"] - parameter.grad).abs().max() / scale
        demand(f"the gradient of {name}", error.item(), 5e-4 if DEVICE.type == "cpu" else 2e-3)
    unet.zero_grad(set_to_none=True)
    return unet, images("start")


def ordered(x, layout):
    return x.contiguous(memory_format=torch.channels_last) if layout != "nchw" else x


def steps(parameters, alpha_bar, clean, predict, is_lower=True):
    """Draws noise, forward, backward, clipping, AdamW, moving average: a training step as a user would write it."""
    average = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=2e-4, weight_decay=0.0, fused=True)
    alpha_bar = alpha_bar.to(DEVICE)

    def step():
        noise = torch.randn_like(clean)
        t = torch.randint(0, 1000, (len(clean),), device=DEVICE)
        a = alpha_bar[t].view(-1, 1, 1, 1)
        noisy = a.sqrt() * clean + (1 - a).sqrt() * noise
        with lower(is_lower):
            predicted = predict(noisy, t)
        torch.nn.functional.mse_loss(predicted.float(), noise).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch._foreach_lerp_(average, [p.detach() for p in parameters], 1e-3)

    # On a device the first steps choose algorithms and compile.
    for _ in range(1 if DEVICE.type == "cpu" else 3):
        step()
    return step


def trainer(folder, layout, quick, is_lower=True):
    unet, start = network(folder, layout)
    unet.train()
    parameters = list(unet.parameters())
    unet = raced(unet, layout)
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)
    clean = ordered(torch.rand(start.shape, device=DEVICE) * 2 - 1, layout)
    return steps(parameters, alpha_bar, clean, lambda x, t: unet(x, t).sample, is_lower)


def sampler(folder, layout, quick, is_lower=True):
    unet, start = network(folder, layout)
    unet.eval()
    unet = raced(unet, layout)
    scheduler = DDIMScheduler(num_train_timesteps=1000, clip_sample=True)

    @torch.inference_mode()
    def walk(stages):
        scheduler.set_timesteps(stages)
        x = start
        for t in scheduler.timesteps:
            with lower(is_lower):
                noise = unet(x, t).sample
            x = scheduler.step(noise.float(), t, x).prev_sample

    walk(1)
    return lambda: walk(3 if quick else 50)


def energies(form, queries, patterns, beta, rows, columns):
    """E of each query, streamed: [rows, columns] similarities at a time."""
    half = 0.5 * patterns.square().sum(1)
    found = []
    for x in queries.split(rows):
        own = 0.5 * x.square().sum(1, keepdim=True)
        total = torch.full((len(x),), -torch.inf, dtype=torch.float64, device=x.device)
        for begin in range(0, len(patterns), columns):
            s = x @ patterns[begin : begin + columns].T
            if form == "distance":
                s -= half[begin : begin + columns]
                s -= own
                s.clamp_(max=0)
            total = torch.logaddexp(total, torch.logsumexp(s.mul_(beta), 1).double())
        if form == "distance":
            found.append((torch.tensor(len(patterns)).double().log() - total) / beta)
        else:
            found.append(own.squeeze(1).double() - total / beta)
    return torch.cat(found)


def hopfield(form, folder):
    given = held(folder / "energy.safetensors")
    beta = given["inverse_temperature"].item()
    found = energies(form, given["queries"], given["patterns"], beta, 1000, 10000)
    error = ((found - given["energy"]).abs() / (1 + given["energy"].abs())).max().item()
    demand("the energy", error, 1e-5)
    n, m, d = given["sizes"].tolist()
    queries, patterns = torch.randn(n, d, device=DEVICE), torch.randn(m, d, device=DEVICE)
    return lambda: energies(form, queries, patterns, beta, 1000, 10000)


def arguments(description):
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--case", required=True)
    arguments.add_argument("--layout", required=True, choices=["nchw", "nhwc", "rows", "eager", "compile"])
    arguments.add_argument("--folder", required=True, type=pathlib.Path)
    arguments.add_argument("--threads", required=True, type=int)
    arguments.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    arguments.add_argument("--quick", action="store_true")
    return arguments.parse_args()


def serve(a, prepare):
    """Seconds of what `prepare` prepares for every order, and the peak memory at the end."""
    global DEVICE
    DEVICE = torch.device(a.device)
    torch.set_num_threads(a.threads)
    # What is compared is true float32; what is raced says its own precision.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    floor = peak()
    work = prepare(a)
    if DEVICE.type == "cuda":
        wait()
        torch.cuda.reset_peak_memory_stats()
    print("ready", floor, flush=True)
    for order in sys.stdin:
        if order.strip() != "round":
            break
        start = time.perf_counter()
        work()
        wait()
        print("seconds", time.perf_counter() - start, flush=True)
    print("peak", peak(), flush=True)


def work(a):
    kind, name = a.case.split("-")[:2]
    if kind == "energy":
        with torch.inference_mode():
            return torch.inference_mode()(hopfield(name, a.folder))
    return {"train": trainer, "sample": sampler}[kind](a.folder, a.layout, a.quick, "-f32-" not in a.case)


if __name__ == "__main__":
    serve(arguments(__doc__), work)
