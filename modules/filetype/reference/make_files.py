"""Writes the sample files that are made by a rule rather than by hand: `files/`, beside this file.

    python make_files.py

What it writes is kept in the repository, since a compressor's output differs between its versions; run it to add a kind.
"""

import base64
import bz2
import gzip
import io
import json
import lzma
import marshal
import pickle
import plistlib
import random
import sqlite3
import struct
import tarfile
import tempfile
import wave
import zipfile
import zlib
from pathlib import Path

FILES = Path(__file__).parent / "files"
STAMP = (2024, 1, 2, 3, 4, 6)
TEXT = "A hummingbird in torpor spends almost nothing, and wakes at once.\n"


def zipped(entries):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name, STAMP), content)
    return out.getvalue()


def tarred():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("README", "src/main.c", "src/util.h"):
            info = tarfile.TarInfo(name)
            content = (TEXT * 5).encode()
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def png(width=24, height=24):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes((x * 10 + y * 3) % 256 for x in range(width) for _ in range(3)) for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def bmp(width=16, height=16):
    pixels = bytes((x * 16 + y) % 256 for y in range(height) for x in range(width) for _ in range(3))
    return struct.pack("<2sIHHI", b"BM", 54 + len(pixels), 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, len(pixels), 2835, 2835, 0, 0) + pixels


def gif():
    palette = bytes(value for i in range(4) for value in (i * 80, 255 - i * 80, i * 40))
    return b"GIF89a" + struct.pack("<HHBBB", 2, 2, 0x91, 0, 0) + palette + b"," + struct.pack("<HHHHB", 0, 0, 2, 2, 0) + b"\x02\x03\x44\x34\x05\x00;"


def wav():
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(b"".join(struct.pack("<h", (i * 997) % 20000 - 10000) for i in range(800)))
    return out.getvalue()


def sqlite():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.db"
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE birds (id INTEGER PRIMARY KEY, name TEXT, mass REAL)")
        connection.executemany("INSERT INTO birds (name, mass) VALUES (?, ?)", [(f"bird {i}", i * 1.5) for i in range(40)])
        connection.commit()
        connection.close()
        return path.read_bytes()


def pdf():
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 144] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length 44 >>\nstream\nBT /F1 18 Tf 20 100 Td (Hello, world) Tj ET \nendstream",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, offsets = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(out)
    out += b"xref\n0 6\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return out + b"trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % start


def elf():
    """A program for x86-64 Linux that does nothing but exit."""
    code = bytes.fromhex("31ff6a3c580f05")
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, 120 + len(code), 120 + len(code), 0x1000) + code + bytes(200)


def wasm():
    """A module that exports `add`."""
    return bytes.fromhex("0061736d01000000" "0107016002" "7f7f017f" "03020100" "0707010361646400" "00" "0a09010700" "200020016a0b") + b"\0\x10\x04name\x01\x06\x01\0\x03add" + b""


def class_file():
    """A Java class with no method."""
    names = [b"Bird", b"java/lang/Object", b"SourceFile", b"Bird.java"]
    pool = b"".join(b"\x01" + struct.pack(">H", len(name)) + name for name in names) + b"\x07\0\x01\x07\0\x02"
    return bytes.fromhex("cafebabe00000034") + struct.pack(">H", 7) + pool + struct.pack(">HHHHHHH", 0x21, 5, 6, 0, 0, 0, 1) + struct.pack(">HIH", 3, 2, 4)


def npy():
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (8, 16), }"
    header += b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + struct.pack("<128f", *(i / 7 for i in range(128)))


def docx():
    types = '<?xml version="1.0" encoding="UTF-8"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
    links = '<?xml version="1.0" encoding="UTF-8"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/></Relationships>'
    text = '<?xml version="1.0" encoding="UTF-8"?><w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r><w:t>Hello, world</w:t></w:r></w:p></w:body></w:document>'
    return zipped([("[Content_Types].xml", types), ("_rels/.rels", links), ("word/document.xml", text)])


def epub():
    box = '<?xml version="1.0"?><container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile full-path="content.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(zipfile.ZipInfo("mimetype", STAMP), "application/epub+zip")
        archive.writestr(zipfile.ZipInfo("META-INF/container.xml", STAMP), box)
        archive.writestr(zipfile.ZipInfo("content.opf", STAMP), "<package version='3.0'></package>")
    return out.getvalue()


def pcap():
    out = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for i in range(12):
        packet = bytes.fromhex("ffffffffffff00112233445508004500") + bytes((i * j) % 256 for j in range(60))
        out += struct.pack("<IIII", 1700000000 + i, 0, len(packet), len(packet)) + packet
    return out


def midi():
    track = b"".join(b"\0\x90" + bytes([60 + i % 12]) + b"\x40\x60\x80" + bytes([60 + i % 12]) + b"\0" for i in range(20)) + b"\0\xff\x2f\0"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, 96) + b"MTrk" + struct.pack(">I", len(track)) + track


def pem():
    body = base64.encodebytes(random.Random(5).randbytes(600)).decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n".encode()


def main():
    made = {
        "archive.zip": zipped([("a.txt", TEXT * 4), ("b/c.txt", TEXT * 9)]),
        "archive.tar": tarred(),
        "text.gz": gzip.compress((TEXT * 40).encode(), mtime=0),
        "text.bz2": bz2.compress((TEXT * 40).encode()),
        "text.xz": lzma.compress((TEXT * 40).encode()),
        "text.zlib": zlib.compress((TEXT * 40).encode()),
        "image.png": png(),
        "image.bmp": bmp(),
        "image.gif": gif(),
        "sound.wav": wav(),
        "birds.sqlite": sqlite(),
        "page.pdf": pdf(),
        "program.elf": elf(),
        "module.wasm": wasm(),
        "Bird.class": class_file(),
        "array.npy": npy(),
        "object.pickle": pickle.dumps({"name": "bird", "rows": [[i, i * 2.5] for i in range(60)]}, protocol=4),
        "settings.bplist": plistlib.dumps({"Name": "Bird", "Rows": list(range(40)), "On": True}, fmt=plistlib.FMT_BINARY),
        "code.pyc": bytes.fromhex("a70d0d0a") + bytes(12) + marshal.dumps(compile("def f(x):\n    return x + 1\n", "f.py", "exec")),
        "letter.docx": docx(),
        "book.epub": epub(),
        "traffic.pcap": pcap(),
        "tune.mid": midi(),
        "certificate.pem": pem(),
        "notebook.ipynb": json.dumps({"cells": [{"cell_type": "code", "execution_count": 1, "metadata": {}, "outputs": [], "source": ["print('hi')"]}], "metadata": {"kernelspec": {"name": "python3"}}, "nbformat": 4, "nbformat_minor": 5}, indent=1).encode(),
    }
    FILES.mkdir(exist_ok=True)
    for name, content in made.items():
        (FILES / name).write_bytes(content)


if __name__ == "__main__":
    main()
