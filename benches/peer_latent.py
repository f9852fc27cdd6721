"""The cases of benches/latent.rs in PyTorch, diffusers and peft, on orders from standard input.

As peer.py: its own results must agree with ours before it races.
"""

import torch
from diffusers import UNet2DConditionModel

import peer
from peer import arguments, demand, held, lower, ordered, raced, relative, serve, steps


def network(folder, layout):
    unet = UNet2DConditionModel.from_pretrained(folder)
    unet = unet.to(peer.DEVICE)
    return unet.to(memory_format=torch.channels_last) if layout != "nchw" else unet


def adapters(unet, expected):
    """Rank 4 on the projections of every attention, with the numbers that our side drew."""
    from peft import LoraConfig

    unet.requires_grad_(False)
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    unet.add_adapter(LoraConfig(r=4, lora_alpha=4, init_lora_weights="gaussian", target_modules=targets))
    for name, parameter in trained(unet).items():
        parameter.data.copy_(expected["adapter." + name])


def trained(unet):
    name = lambda name: "unet." + name.replace(".default.", ".") if ".lora_" in name else name
    return {name(n): p for n, p in unet.named_parameters() if p.requires_grad}


def compared(unet, folder, layout, with_adapters):
    expected = held(folder / "expected.safetensors")
    if with_adapters:
        adapters(unet, expected)
    images = lambda name: ordered(expected[name].permute(0, 3, 1, 2).contiguous(), layout)
    with torch.set_grad_enabled(any(name.startswith("gradient.") for name in expected)):
        out = unet(images("x"), expected["t"], expected["context"]).sample
    demand("the output", relative(images("out"), out.detach()), 2e-5 if peer.DEVICE.type == "cpu" else 2e-4)
    if out.requires_grad:
        torch.nn.functional.mse_loss(out, images("noise")).backward()
        for name, parameter in trained(unet).items():
            demand(f"the gradient of {name}", relative(expected[f"gradient.{name}"], parameter.grad), 1e-3)
        unet.zero_grad(set_to_none=True)
    return images("x"), expected["context"]


def repeated(x, n):
    return torch.cat([x] * n)[:n].contiguous()


def forward(unet, x, context, batch):
    x, context, t = repeated(x, batch), repeated(context, batch), torch.tensor([3, 700], device=peer.DEVICE)[:batch]

    @torch.inference_mode()
    def evaluate():
        with lower():
            unet(x, t, context)

    evaluate()
    return evaluate


def trainer(unet, x, context, batch, layout):
    unet.train()
    parameters = [p for p in unet.parameters() if p.requires_grad]
    alpha_bar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)
    clean, context = ordered(repeated(x, batch), layout), repeated(context, batch)
    unet = raced(unet, layout)
    return steps(parameters, alpha_bar, clean, lambda x, t: unet(x, t, context).sample)


def load(folder):
    """Reads every number once, as our side does when it looks for those that are not finite."""

    def read():
        unet = UNet2DConditionModel.from_pretrained(folder)
        if not all(torch.isfinite(p).all() for p in unet.parameters()):
            raise ValueError("not finite")

    read()
    return read


def work(a):
    kind = a.case.split("-")[1]
    if kind == "load":
        return load(a.folder)
    batch = 2 if a.quick else int(a.case.rsplit("-b", 1)[1])
    unet = network(a.folder, a.layout)
    x, context = compared(unet, a.folder, a.layout, kind == "lora")
    if kind == "recomputed":
        unet.enable_gradient_checkpointing()
    if kind == "forward":
        return forward(unet, x, context, batch)
    return trainer(unet, x, context, batch, a.layout)


if __name__ == "__main__":
    serve(arguments(__doc__), work)
