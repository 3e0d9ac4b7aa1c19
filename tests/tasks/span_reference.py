"""SQuAD 2.0's scores written a second time, question by question, and small question-answering data."""

import json
import random
import re
import string

WORDS = ["cat", "dogs", "mat", "rain", "fields", "sat", "saw", "two", "green", "softly"]


def words(text):
    """The words that count in an answer: split first, then clean; the lab cleans first, then splits."""
    out = []
    for piece in text.lower().split():
        cleaned = "".join(c for c in piece if c not in string.punctuation)
        # An article counts as one wherever word borders part it from the rest ("a–b" has two words for re).
        out += re.sub(r"(?<!\w)(?:an|a|the)(?!\w)", " ", cleaned).split()
    return out


def one_score(prediction, gold):
    """(exact, F1) of a prediction against one right answer, by counting shared words one at a time."""
    predicted, right = words(prediction), words(gold)
    if not predicted or not right:
        return (float(predicted == right),) * 2
    left, shared = list(right), 0
    for word in predicted:
        if word in left:
            left.remove(word)
            shared += 1
    if not shared:
        return 0.0, 0.0
    precision, recall = shared / len(predicted), shared / len(right)
    return float(predicted == right), 2 * precision * recall / (precision + recall)


def evaluate(data, predictions):
    """SQuAD 2.0's report for {id: text}: exact, f1 and their parts for answerable and unanswerable questions."""
    lists = {"HasAns": [], "NoAns": []}
    for article in data["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                golds = [a["text"] for a in question["answers"] if words(a["text"])] or [""]
                pairs = [one_score(predictions[question["id"]], gold) for gold in golds]
                part = "HasAns" if question["answers"] else "NoAns"
                lists[part].append((max(p[0] for p in pairs), max(p[1] for p in pairs)))
    report = {}
    for prefix, chosen in (("", lists["HasAns"] + lists["NoAns"]), *((f"{k}_", v) for k, v in lists.items())):
        if chosen:
            report[f"{prefix}exact"] = 100 * sum(p[0] for p in chosen) / len(chosen)
            report[f"{prefix}f1"] = 100 * sum(p[1] for p in chosen) / len(chosen)
    return report


def squad_json(questions, seed, *, unanswerable=0.3, longest=30):
    """SQuAD 2.0's format: each question is one word, its answer the word after it in the context, if it is there."""
    draw = random.Random(seed)
    paragraphs = []
    for number in range(questions):
        context = [draw.choice(WORDS) for _ in range(draw.randint(8, longest))]
        answers = []
        if draw.random() < unanswerable:
            asked = draw.choice(WORDS)
            context = [word if word != asked else "on" for word in context]
        else:
            at = draw.randrange(len(context) - 1)
            asked = context[at]
            text = " ".join(context)
            for place in {at, draw.randrange(at, len(context) - 1)}:
                start = len(" ".join(context[: place + 1])) + 1
                answers.append({"text": context[place + 1], "answer_start": start})
                assert text[start:].startswith(context[place + 1])
        qa = {
            "id": f"q{seed}-{number}",
            "question": f"What is after {asked}?",
            "answers": answers,
            "is_impossible": not answers,
        }
        paragraphs.append({"context": " ".join(context), "qas": [qa]})
    return {"version": "v2.0", "data": [{"title": "words", "paragraphs": paragraphs}]}


def write_squad(folder, sizes=(60, 20), **how):
    """train-v2.0.json and dev-v2.0.json in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, count) in enumerate(zip(("train", "dev"), sizes, strict=True)):
        (folder / f"{name}-v2.0.json").write_text(json.dumps(squad_json(count, seed, **how)))
    return folder
