"""Whether the real library takes a Stable Diffusion folder: every component loads whole, and two prompts become images.

Run by hand as `python tests/golden/round_trip.py FOLDER [--size PIXELS]`. Exits with 1 and a line for each trouble: a key
that is missing, unexpected, newly initialised or of another shape, a warning while loading, a number that is not finite.
"""

import sys

sys.path.append(sys.path.pop(0))  # No neighbour of this script may stand in for a standard module.

import argparse
import hashlib
import logging
import warnings

import numpy as np
import torch
import diffusers
import transformers
from diffusers import DDIMScheduler, StableDiffusionPipeline

PROMPTS = ["a red square on a white wall", "a horse"]
N_STEPS, GUIDANCE = 2, 7.5
NETWORKS = {"unet": diffusers.UNet2DConditionModel, "vae": diffusers.AutoencoderKL, "text_encoder": transformers.CLIPTextModel}
FAULTS = ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")


class Warnings(logging.Handler):
    """Keeps what the libraries say at the level of a warning or above."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.found = []

    def emit(self, record):
        """Name of the logger and what it says."""
        self.found.append(f"{record.name}: {record.getMessage()}")


def listen():
    """The handler to which both libraries' warnings now go, python's own included."""
    handler = Warnings()
    logging.captureWarnings(True)
    warnings.simplefilter("default")
    for name in ("diffusers", "transformers", "py.warnings"):
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).propagate = False
    return handler


def faults_of(folder, part, kind):
    """What the loading information of one network complains of."""
    model, info = kind.from_pretrained(folder, subfolder=part, output_loading_info=True)
    print(f"{part}: {len(model.state_dict())} tensors, {sum(p.numel() for p in model.parameters())} parameters")
    return [f"{part}: {kind_of_fault}: {sorted(map(str, info[kind_of_fault]))}" for kind_of_fault in FAULTS if info.get(kind_of_fault)]


def describe(name, array):
    """Prints a shape, a digest and a few figures; returns the trouble with it."""
    array = np.ascontiguousarray(array)
    digest = hashlib.sha256(array.tobytes()).hexdigest()[:16]
    print(f"{name}: {list(array.shape)} {array.dtype}, mean {array.mean():.4f}, spread {array.std():.4f}, sha256 {digest}…")
    return [] if np.isfinite(array).all() else [f"{name}: not finite"]


def sample(pipe, size):
    """Guided DDIM of both prompts from one seed: latents, then the images that the VAE makes of them."""
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    options = dict(num_inference_steps=N_STEPS, guidance_scale=GUIDANCE, height=size, width=size)
    latents, images = (
        pipe(PROMPTS, generator=torch.Generator().manual_seed(0), output_type=kind, **options).images for kind in ("latent", "np")
    )
    return describe("latents", latents.numpy()) + describe("images", images)


def tokens(pipe):
    """The tokenizer must fill every prompt to the length that the text encoder has positions for."""
    length = pipe.text_encoder.config.max_position_embeddings
    ids = pipe.tokenizer(PROMPTS, padding="max_length", max_length=length, truncation=True, return_tensors="np").input_ids
    largest = pipe.text_encoder.config.vocab_size - 1
    trouble = describe("tokens", ids)
    trouble += [] if ids.shape == (len(PROMPTS), length) else [f"tokens: expected {length} a prompt, got {ids.shape}"]
    return trouble + ([] if ids.max() <= largest else [f"tokens: {ids.max()} is beyond the vocabulary's last, {largest}"])


def main():
    """Exits with 1 on any trouble."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--size", type=int, help="pixels a side of the images; the network's own size when left out")
    asked = parser.parse_args()
    heard = listen()
    trouble = []
    for part, kind in NETWORKS.items():
        trouble += faults_of(asked.folder, part, kind)
    pipe = StableDiffusionPipeline.from_pretrained(asked.folder, safety_checker=None)
    trouble += heard.found  # Sampling may warn of what it likes.
    trouble += tokens(pipe) + sample(pipe, asked.size)
    print(" ".join(f"{package.__name__} {package.__version__}" for package in (torch, diffusers, transformers)))
    print("\n".join(f"TROUBLE {line}" for line in trouble) or "every component loaded whole")
    sys.exit(bool(trouble))


if __name__ == "__main__":
    main()
