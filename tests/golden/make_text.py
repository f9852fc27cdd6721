"""A small CLIP tokenizer and text encoder with random weights: token ids of awkward texts, and the encoder's output.

Run as `python tests/golden/make_text.py` from the project root. The ids are those of transformers' CLIPTokenizer, the
output is that of its CLIPTextModel in float64. The tokenizer's merges are learned here from the paragraph below.
"""

import sys

sys.path.append(sys.path.pop(0))  # No neighbour of this script may stand in for a standard module.

import json
import math
import re
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from golden import FOLDER, brief, distance, normal, report, versions, write_json, write_tensors

TEXT = """
A photo of a small red house on the hill behind the old harbour, painted by nobody in particular.
The photo of the horse and the rider in the rain is not the painting of the ship in the storm.
There was a river, and on the river a boat, and in the boat a man who did not know what he had forgotten.
A drawing of the city at night, with the lights in the water and the towers above the trees.
They had painted the same mountain thirty times: in the morning, in the evening, in the snow, and in the sun.
He said that the picture of the cat was better than the picture of the dog, and she said that it was not.
"""

START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77
MERGES = 86
LONG = " ".join(f"{word} {number}" for number, word in enumerate(["horse", "Ship", "rivers", "mountain,"] * 25))

PROMPTS = {
    "plain": "A photo of a red house on the hill.",
    "empty": "",
    "spaces": "    ",
    "tabs and newlines": "\ta photo\n\n of\r\n the\x0b sea\x0c",
    "capitals": "THE OLD HARBOUR AT NIGHT",
    "umlauts": "Ein schöner Fluß, Übermut und ÄRGER; ẞ",
    "dotted capital": "İstanbul ΌΣΟΣ ǅ",
    "composed": "caf\u00e9 \u00c5ngstr\u00f6m",
    "decomposed": "cafe\u0301 A\u030angstro\u0308m",
    "composition excluded": "\u0958 \u2126 \ufb01 \u1e9b\u0323",
    "emoji": "a horse 🐎 in the rain ☔️👩‍👩‍👧 🇩🇪",
    "chinese": "一只猫在河边，山。",
    "other scripts": "дом на горе שלום عربى ที่นี่ हिन्दी",
    "digits": "1234 3.14 x2 ٣٤ Ⅷ ½ ²",
    "contractions": "don't I'LL we've they're he'd I'm it's 'tis O'SHEA' ''s",
    "curly quotes": "don’t “quote”",
    "end inside": "a horse<|endoftext|>a ship",
    "start inside": "<|startoftext|> the river <|startoftext|>",
    "END INSIDE": "a horse <|ENDOFTEXT|> and <|EndOfText|> or <|STARTOFTEXT|>",
    "half a token": "a <|endoftext| and <|start of text|> |> <|",
    "entities": "cat &amp; dog &lt;3 &#233; &amp;amp;",
    "long": LONG,
    "long without a gap": "harbour" * 20,
    "long umlauts": "ö" * 60,
    "one too many": "the " * 76,
    "just enough": "the " * 75,
    "zero width": "ri\u200bver\u200d\u200c bo\ufeffat \u2060",
    "controls": "a\x00b \x01c\x1f d\x7f e\x85f \x1cg",
    "other spaces": "a\u00a0photo\u2003of\u3000a\u2028ship\u1680\u180eend",
    "soft hyphen": "moun\u00adtain",
    "punctuation": "wait... what?! (a -- b) [c]_d* ~~ #1 @you $5 50% ^^ /\\ <b>",
    "exclamations": "stop! stop!! ! now",
    "private": "\ue000 \U000f0000 \ufffd \uffff",
    "suffix inside": "house</w> </w> </W>",
    "odd bytes": "Ġhouse Ċ ¡ÿ",
}

# Whose last hidden states are kept.
STATED = ["plain", "empty", "contractions", "long"]

# SD v1.5's files; its padding token is its end.
SPECIAL = {name: {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
           for name, content in (("bos_token", START), ("eos_token", END), ("unk_token", END))}
TOKENIZER_CONFIG = {
    "add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": LENGTH, "pad_token": END,
    "tokenizer_class": "CLIPTokenizer",
} | {name: {"__type": "AddedToken"} | token for name, token in SPECIAL.items()}
SPECIAL_TOKENS_MAP = SPECIAL | {"pad_token": END}

# What other folders say in the two small files; `None` takes a key away.
FOUND = {"lstrip": False, "rstrip": False, "single_word": False, "special": True}
VARIANTS = [
    # SD 2 pads with "!", which is then found inside texts, too.
    ({"pad_token": "!", "model_max_length": 20}, {"pad_token": "!"}),
    # transformers 4.34 and later: the list in the configuration makes the other file void.
    (
        {"added_tokens_decoder": {
            "598": {"content": START, "normalized": False} | FOUND, "599": {"content": END, "normalized": True} | FOUND,
        }},
        {"pad_token": "!"},
    ),
    # Nothing is said: CLIP's own tokens.
    (dict.fromkeys(["bos_token", "eos_token", "unk_token", "pad_token"]), dict.fromkeys(SPECIAL_TOKENS_MAP)),
]

# Prompts for the other folder.
SMALL = ["plain", "empty", "exclamations", "umlauts", "contractions", "long", "end inside", "END INSIDE"]

MODEL = dict(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=LENGTH,
    hidden_act="quick_gelu", projection_dim=32,
)

# Options that a port may misread without changing a shape; each must show in the output.
MISTAKES = {"hidden_act": "gelu", "layer_norm_eps": 1e-3, "num_attention_heads": 2}


def alphabet():
    """The character that stands for each byte, in the order of CLIP's vocabulary: printable bytes first."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]


def learn(text, n):
    """The n merges that join the most frequent pair each time; of equally frequent pairs the last in order."""
    words = Counter(re.findall(r"[a-z]+|[^\sa-z]+", text.lower()))
    words = {(*word[:-1], word[-1] + "</w>"): count for word, count in words.items()}
    merges = []
    while len(merges) < n:
        pairs = Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        merges.append(max(pairs, key=lambda pair: (pairs[pair], pair)))
        words = {joined(word, merges[-1]): count for word, count in words.items()}
    return merges


def joined(word, pair):
    """`word` with every occurrence of `pair`, from the left, made one."""
    parts, at = [], 0
    while at < len(word):
        step = 2 if word[at:at + 2] == pair else 1
        parts.append("".join(word[at:at + step]))
        at += step
    return tuple(parts)


def vocabulary(characters, merges):
    """CLIP's order: bytes, bytes at the end of a word, what the merges make, start, end."""
    tokens = [*characters, *(c + "</w>" for c in characters), *("".join(pair) for pair in merges), START, END]
    return {token: index for index, token in enumerate(tokens)}


def write_tokenizer(folder, config, special_tokens_map):
    """The four files of a diffusers tokenizer folder."""
    merges = learn(TEXT, MERGES)
    vocab = vocabulary(alphabet(), merges)
    compact = dict(ensure_ascii=False, separators=(",", ":"))
    (folder / "vocab.json").write_text(json.dumps(vocab, **compact))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(special_tokens_map, indent=2) + "\n")


def ids(tokenizer, text):
    """As diffusers' pipelines ask for them."""
    return tokenizer(text, padding="max_length", max_length=tokenizer.model_max_length, truncation=True).input_ids


def rows(tokenizer, names):
    """How one tokenizer reads the prompts of these names: ids without the padding behind them."""
    found, pad, length = {}, tokenizer.pad_token_id, tokenizer.model_max_length
    for name in names:
        padded = ids(tokenizer, PROMPTS[name])
        n = min(len(tokenizer(PROMPTS[name]).input_ids), length)
        assert padded[n:] == [pad] * (length - n)
        found[name] = padded[:n]
    return {"length": length, "pad": pad, "ids": found}


def fresh(name):
    """An empty folder."""
    folder = FOLDER / "latent" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def make_tokenizer():
    """The folder in the form of SD v1.5."""
    folder = fresh("tokenizer")
    write_tokenizer(folder, TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP)
    for file in sorted(folder.iterdir()):
        report(file)
    return CLIPTokenizer.from_pretrained(folder)


def variant(config, special_tokens_map):
    """How transformers reads the folder with these changes of its two small files, `None` for a key that is gone."""
    files = [{k: v for k, v in (whole | change).items() if v is not None}
             for whole, change in ((TOKENIZER_CONFIG, config), (SPECIAL_TOKENS_MAP, special_tokens_map))]
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder), *files)
        found = rows(CLIPTokenizer.from_pretrained(folder), ["plain", "empty", "exclamations", "END INSIDE"])
    return {"tokenizer_config": config, "special_tokens_map": special_tokens_map} | found


def make_json_tokenizer():
    """What transformers 5 saves, one `tokenizer.json`: few letters, so that others are unknown, and 24 positions."""
    folder, merges = fresh("tokenizer-json"), [("t", "h"), ("th", "e</w>"), ("o", "r"), ("s", "e</w>")]
    vocab = vocabulary([*"!'abcdefghijklmnoprstu1"], merges)
    CLIPTokenizer(vocab=vocab, merges=merges, pad_token="!", model_max_length=24).save_pretrained(folder)
    for file in sorted(folder.iterdir()):
        compact = json.dumps(json.loads(file.read_text()), ensure_ascii=False, separators=(",", ":"))
        file.write_text(compact + "\n")
        report(file)
    return CLIPTokenizer.from_pretrained(folder)


def randomize(model):
    """Every parameter non-trivial, the attention far from uniform, and exact in float16, in which the file holds them."""
    for index, (name, parameter) in enumerate(model.named_parameters()):
        drawn = normal((40, index), *parameter.shape)
        if "norm" in name and name.endswith("weight"):
            drawn = 1 + 0.3 * drawn
        elif "embedding" in name:
            drawn = 0.3 * drawn
        elif name.endswith("bias"):
            drawn = 0.2 * drawn
        else:
            drawn = (1.8 if "q_proj" in name or "k_proj" in name else 1.1) * drawn / math.sqrt(parameter.shape[1])
        parameter.data.copy_(drawn)


def states(folder, batch, dtype=torch.float64, **changes):
    """last_hidden_state of the folder's model, with a changed configuration if asked."""
    config = CLIPTextConfig.from_pretrained(folder, attn_implementation="sdpa", **changes)
    model = CLIPTextModel.from_pretrained(folder, config=config, dtype=dtype).eval()
    with torch.no_grad():
        return model(input_ids=batch).last_hidden_state


def make_encoder(tokenizer, found_versions):
    """The encoder's folder, and its output for the stated prompts."""
    folder = fresh("text_encoder")
    ends = dict(bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=1)
    model = CLIPTextModel(CLIPTextConfig(**MODEL, **ends, vocab_size=len(tokenizer)))
    randomize(model)
    model.half().save_pretrained(folder)
    for file in sorted(folder.iterdir()):
        report(file)
    print("  names such as", sorted(load_file(folder / "model.safetensors"))[0])

    batch = torch.tensor([ids(tokenizer, PROMPTS[name]) for name in STATED])
    expected = states(folder, batch)
    single = brief(distance(states(folder, batch, torch.float32), expected))
    shown = {k: brief(distance(states(folder, batch, **{k: v}), expected)) for k, v in MISTAKES.items()}
    print(f"{model.num_parameters()} parameters, |state| {expected.std():.2f}, float32 {single}, mistakes {shown}")
    assert all(moved > 100 * single for moved in shown.values()), "a mistake could hide"
    short = batch[:2, :16]
    gelu = states(folder, short, hidden_act="gelu")
    about = {
        "versions": found_versions, "prompts": STATED, "distance": "max|a - b| / max|b| from float64",
        "float32": {"text.last_hidden_state": single}, "mistakes": shown,
    }
    tensors = {"text.ids": batch, "text.last_hidden_state": expected.float(), "text.gelu.last_hidden_state": gelu.float()}
    write_tensors(FOLDER / "latent" / "text.safetensors", tensors, about)


def main():
    """All files of the text room."""
    found_versions = versions("torch", "transformers", "tokenizers", "safetensors", "numpy")
    tokenizer, small = make_tokenizer(), make_json_tokenizer()
    content = {
        "versions": found_versions, "texts": PROMPTS, "tokenizer": rows(tokenizer, PROMPTS),
        "tokenizer-json": rows(small, SMALL), "variants": [variant(*changes) for changes in VARIANTS],
    }
    write_json(FOLDER / "latent" / "text.json", content)
    make_encoder(tokenizer, found_versions)


if __name__ == "__main__":
    main()
