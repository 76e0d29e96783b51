"""Records what Magika says of each content: `cases.json`, beside this file.

    pip install magika==1.0.3
    python record.py

A content is the concatenation of its `parts`: `{"file": NAME}` in `files/`, `{"hex": BYTES}`, `{"text": UTF-8, "times": N}`, or
`{"random": N}`: the high bytes of N steps of x = x * 1664525 + 1013904223 modulo 2^32, from x = 1.

For each there is the answer (`label`, `mime_type`, `score`); where the model was asked, `model_label` is what it said, and
`features` the FNV-1a hash (64 bits) of what it saw, as little-endian 32-bit integers.
"""

import io
import json
from pathlib import Path

from magika import Magika
from magika.types import Seekable

HERE = Path(__file__).parent


def text(value, times=1):
    return {"text": value, "times": times}


LINE = "The quick brown fox jumps over the lazy dog, again and again.\n"
PYTHON = "import os\n\ndef main(path):\n    for name in os.listdir(path):\n        print(name)\n\n"

BY_RULE = {
    "nothing": [],
    "one letter": [text("a")],
    "one zero byte": [{"hex": "00"}],
    "one byte that is no text": [{"hex": "ff"}],
    "seven bytes of text": [text("1234567")],
    "eight bytes of text": [text("12345678")],
    "eight spaces": [text(" ", 8)],
    "eight bytes behind white space": [text("\n\t \r\x0b\x0c12345678  \n")],
    "seven bytes behind white space": [text("\n\t \r\x0b\x0c1234567  \n")],
    "separators that are not stripped": [text("\x1c\x1d\x1e\x1f\x85\u00a0 word")],
    "a block of white space": [text(" ", 4096)],
    "text behind a block of white space": [text(" ", 5000), text(LINE, 20)],
    "white space that cuts a character": [text(" ", 4095), text("é", 30)],
    "white space, seven bytes in the block": [text("\n", 4089), text(PYTHON, 9)],
    "white space, eight bytes in the block": [text("\n", 4088), text(PYTHON, 9)],
    "text before a block of white space": [text(PYTHON, 3), text(" \n", 4096)],
    "one byte less than a block": [text("0123456789abcde\n", 255), text("0123456789abcde")],
    "a block": [text("0123456789abcde\n", 256)],
    "one byte more than a block": [text("0123456789abcde\n", 256), text("x")],
    "as much as the model sees of one end": [text("0123456789abcde\n", 63), text("0123456789abcdef")],
    "python, long": [text(PYTHON, 1000)],
    "text, huge": [text(LINE, 130_000)],
    "zero bytes, huge": [text("\0", 16 << 20)],
    "random, some": [{"random": 3000}],
    "random, huge": [{"random": 3 << 20}],
    "utf-16": [{"hex": "fffe" + "".join(f"{ord(c):02x}00" for c in LINE * 8)}],
    "latin-1": [{"hex": "".join(f"{b:02x}" for b in ("Größe, Straße und Übermut: ein Satz über Vögel.\n" * 8).encode("latin-1"))}],
    "picture with a long tail": [{"file": "image.png"}, text("\0", 5 << 20)],
    "zip behind a script": [{"file": "run.sh"}, {"file": "archive.zip"}],
    "json without line ends": [text('{"a":[1,2,{"b":null}],"c":"d"},', 3000)],
    "letters without sense": [text("qpwoeiruty zmxncbv alskdjf ghtyru ", 40)],
    "one word": [text("hummingbirds")],
    "a question": [text("What is this, and why?")],
    "digits": [text("31415926535897932384626433832795028841971")],
}


def content(parts):
    whole = bytearray()
    for part in parts:
        if "file" in part:
            whole += (HERE / "files" / part["file"]).read_bytes()
        elif "hex" in part:
            whole += bytes.fromhex(part["hex"])
        elif "text" in part:
            whole += part["text"].encode() * part["times"]
        else:
            x = 1
            for _ in range(part["random"]):
                x = (x * 1664525 + 1013904223) % 2**32
                whole.append(x >> 24)
    return bytes(whole)


def fnv(tokens):
    value = 0xCBF29CE484222325
    for byte in b"".join(token.to_bytes(4, "little") for token in tokens):
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def features(magika, whole):
    config = magika._model_config
    found = Magika._extract_features_from_seekable(
        Seekable(io.BytesIO(whole)),
        config.beg_size,
        config.mid_size,
        config.end_size,
        config.padding_token,
        config.block_size,
        config.use_inputs_at_offsets,
    )
    return found.beg + found.end


def main():
    magika = Magika()
    named = {path.name: [{"file": path.name}] for path in sorted((HERE / "files").iterdir())} | BY_RULE
    lines = []
    for name, parts in named.items():
        whole = content(parts)
        prediction = magika.identify_bytes(whole).prediction
        case = {
            "name": name,
            "parts": parts,
            "label": str(prediction.output.label),
            "mime_type": prediction.output.mime_type,
            "score": prediction.score,
        }
        if str(prediction.dl.label) != "undefined":
            case |= {"model_label": str(prediction.dl.label), "features": fnv(features(magika, whole))}
        lines.append(json.dumps(case))
        print(f"{name:40} {case['label']:16} {case.get('model_label', '-'):16} {case['score']:.3f}")
    (HERE / "cases.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"{len(lines)} contents")


if __name__ == "__main__":
    main()
