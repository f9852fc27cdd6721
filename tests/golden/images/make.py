"""Small images in every form that `crates/data` decodes, and what Pillow makes of them.

Usage: python make.py
Needs pillow (made with 13.0.0) and numpy (made with 2.4.6); reads ../cifar10.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__).parent
WHITE = (255, 255, 255, 255)


def picture(channels, seed):
    """Smooth enough for JPEG and the same in no two directions."""
    y, x = np.mgrid[0:8, 0:12].astype(float)
    planes = [127 + 60 * np.sin(0.3 * (seed + c) * x + 0.2 * c) + 5 * y for c in range(channels)]
    return np.stack(planes, axis=-1).round().clip(0, 255).astype(np.uint8)


def opaque(image):
    white = Image.new("RGBA", image.size, WHITE)
    return np.asarray(Image.alpha_composite(white, image.convert("RGBA")).convert("RGB"))


def files():
    """Yields each file's name and the pixels expected of it."""
    rgb = Image.fromarray(picture(3, 1))
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: to be turned by 90 degrees clockwise.
    rgb.save(HERE / "turned.jpg", quality=95, subsampling=0, exif=exif)
    yield "turned.jpg", np.asarray(ImageOps.exif_transpose(Image.open(HERE / "turned.jpg")))
    rgb.save(HERE / "progressive.jpg", quality=95, subsampling=0, progressive=True)
    yield "progressive.jpg", np.asarray(Image.open(HERE / "progressive.jpg"))
    rgb.save(HERE / "lossy.webp", quality=90)
    yield "lossy.webp", np.asarray(Image.open(HERE / "lossy.webp").convert("RGB"))
    rgba = Image.fromarray(picture(4, 2))
    rgba.save(HERE / "alpha.png")
    yield "alpha.png", opaque(rgba)
    rgba.save(HERE / "alpha.webp", lossless=True, exact=True)
    yield "alpha.webp", opaque(rgba)
    palette = rgb.quantize(7)
    palette.save(HERE / "palette.png")
    yield "palette.png", np.asarray(palette.convert("RGB"))
    deep = np.arange(8 * 12, dtype=np.uint16).reshape(8, 12) * 677
    Image.fromarray(deep).save(HERE / "deep.png")
    yield "deep.png", np.rint(deep / 257).astype(np.uint8)[..., None]
    bits = Image.fromarray(picture(1, 3)[..., 0]).convert("1")
    bits.save(HERE / "bits.png")
    yield "bits.png", np.asarray(bits.convert("L"))[..., None]


def main():
    # Refused by the reader, so no pixels are expected of it.
    Image.fromarray(picture(4, 1), mode="CMYK").save(HERE / "cmyk.jpg")
    expected = {}
    for name, pixels in files():
        height, width, channels = pixels.shape
        expected[name] = {"shape": [width, height, channels], "pixels": pixels.ravel().tolist()}
    cat = Image.open(HERE / "../cifar10/cifar10_00_3.png")
    expected["grey"] = np.asarray(cat.convert("L")).ravel().tolist()
    for side in (16, 24, 48):
        expected[f"bilinear {side}"] = np.asarray(cat.resize((side, side), Image.BILINEAR)).ravel().tolist()
    (HERE / "pillow.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")


main()
