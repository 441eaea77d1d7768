#!/usr/bin/env python3
"""Writes train.jsonl and test.jsonl: sentences about purchases, and the strict JSON that says the same.

The task is made so that a small model can learn it from a few hundred examples: every field is copied from the
sentence or simply normalised (number words to digits, a currency to its code, an unambiguous date to ISO form), and
what the sentence does not say is null. Nothing is computed. The test set shares no sentence with the training set
and uses items and shops that the training set never shows.

The same seed gives the same bytes. Standard library only:

    python3 generate.py [--seed N] [--train N] [--test N] [--out FOLDER]
"""

import argparse
import json
import pathlib
import random

SYSTEM = "Purchase to JSON."

FIRST_NAMES = """Anna Ben Carla David Elena Frank Grace Henry Irene Jack Karen Leo Maria Nick Olivia Peter Rachel Sam
Tina Victor Wendy Alex Julia Omar Priya Kenji Sofia Lucas Emma Noah""".split()

# (one, several): the item is copied as the sentence has it. The words that begin an item or a shop's name are whole
# tokens in small vocabularies with and without a space before them, so that copying one into a JSON string does not
# change how it is cut.
NOUNS = [tuple(pair.split("/")) for pair in """notebook/notebooks pencil/pencils towel/towels lamp/lamps chair/chairs
pillow/pillows candle/candles hat/hats jacket/jackets shirt/shirts belt/belts watch/watches pan/pans plate/plates
bowl/bowls spoon/spoons bottle/bottles basket/baskets rug/rugs mirror/mirrors clock/clocks brush/brushes rope/ropes
bucket/buckets tent/tents ball/balls puzzle/puzzles book/books magazine/magazines poster/posters keyboard/keyboards
cable/cables speaker/speakers battery/batteries folder/folders envelope/envelopes sticker/stickers ribbon/ribbons
blanket/blankets curtain/curtains hose/hoses glove/gloves sock/socks helmet/helmets""".split()]
ADJECTIVES = """red blue green black white grey yellow purple orange brown small large light heavy round square old new
soft bright dark thin thick long short plain""".split()
MATERIALS = "wooden metal plastic glass cotton leather wool ceramic folding striped".split()

SHOP_WORDS = """River Central Golden Silver Union Market Station Park Forest Ocean North West Royal Grand Star Spring
Winter Stone Iron City Lake Hill Rose Apple King Queen Global Delta Omega""".split()
SHOP_KINDS = ["Store", "Market", "Supplies", "Goods", "House", "Trading", "Hardware"]
SHOP_OWNERS = "Miller Smith Brown Wilson Taylor Davis Clark Lewis Adams Collins Cook Bell Ross Martin Jackson".split()

# Never in the training set.
HELD_OUT_NOUNS = {"tent", "mirror", "puzzle", "rope"}
HELD_OUT_SHOP_WORDS = {"Forest", "Omega"}
HELD_OUT_OWNERS = {"Collins", "Ross"}

NUMBERS = "one two three four five six seven eight nine ten eleven twelve".split()
MONTHS = "January February March April May June July August September October November December".split()

# How a price may be written, and its code.
PRICES = {
    "EUR": ["€{}", "{} euros", "{} EUR", "EUR {}"],
    "USD": ["${}", "{} dollars", "{} USD", "USD {}"],
    "GBP": ["£{}", "{} pounds", "{} GBP", "GBP {}"],
    "CHF": ["{} francs", "{} CHF", "CHF {}"],
}

# Shop and date carry their preposition; the shop may be left out.
TEMPLATES = [
    "{who} {got} {things} {shop} {date} for {price}{each}.",
    "{who} {got} {things} for {price}{each} {shop} {date}.",
    "{date_first} {who} {got} {things} {shop} for {price}{each}.",
    "{date_first} {who} {got} {things} for {price}{each} {shop}.",
    "{things_first} for {price}{each}, {got} {shop} {date}.",
    "{things_first}, {price}{each}, {shop} {date}.",
    "{shop_first} {who} {got} {things} for {price}{each} {date}.",
    "{who} paid {price}{each} for {things} {shop} {date}.",
    "{who} paid {price}{each} {date} for {things} {shop}.",
    "{shop_first}: {things}, {price}{each} {date}.",
    "New purchase {date}: {things} {shop}, {price}{each}.",
    "Please note: {things} for {price}{each} {shop} {date}.",
]
VERBS = ["bought", "got", "picked up", "purchased", "ordered"]


def capitalised(text):
    return text[:1].upper() + text[1:]


def article(word):
    return ("an " if word[0] in "aeiou" else "a ") + word


class Maker:
    def __init__(self, rng, held_out):
        self.rng = rng
        self.held_out = held_out  # may what the training set never shows be used?

    def one(self, values, never):
        while True:
            value = self.rng.choice(values)
            if self.held_out or value not in never:
                return value

    def things(self):
        """(as in the sentence, item, quantity)"""
        rng = self.rng
        singular, plural = self.one(NOUNS, {n for n in NOUNS if n[0] in HELD_OUT_NOUNS})
        adjective = rng.choice(ADJECTIVES) + " "
        if rng.random() < 0.3:
            adjective += rng.choice(MATERIALS) + " "
        if rng.random() < 0.3:
            item = adjective + singular
            return (article(item) if rng.random() < 0.6 else "one " + item), item, 1
        quantity = rng.randint(2, 12) if rng.random() < 0.8 else rng.randint(13, 60)
        item = adjective + plural
        word = NUMBERS[quantity - 1] if quantity <= 12 and rng.random() < 0.5 else str(quantity)
        return f"{word} {item}", item, quantity

    def price(self):
        """(as in the sentence, amount as written, code)"""
        rng = self.rng
        code = rng.choice(list(PRICES))
        whole = rng.randint(1, 99) if rng.random() < 0.8 else rng.randint(100, 499)
        amount = str(whole) if rng.random() < 0.35 else f"{whole}.{rng.randrange(1, 100):02d}"
        return rng.choice(PRICES[code]).format(amount), amount, code

    def shop(self):
        rng = self.rng
        if rng.random() < 0.35:
            return self.one(SHOP_OWNERS, HELD_OUT_OWNERS) + rng.choice(["'s", " & Sons", " Brothers"])
        return self.one(SHOP_WORDS, HELD_OUT_SHOP_WORDS) + " " + rng.choice(SHOP_KINDS)

    def date(self):
        """(as in the sentence, ISO)"""
        rng = self.rng
        year, month, day = rng.randint(2019, 2025), rng.randint(1, 12), rng.randint(1, 28)
        iso = f"{year}-{month:02d}-{day:02d}"
        name = MONTHS[month - 1]
        written = rng.choice([f"{day:02d} {name} {year}", f"{name} {day:02d}, {year}", iso])
        return written, iso

    def example(self):
        rng = self.rng
        template = rng.choice(TEMPLATES)
        things, item, quantity = self.things()
        price, amount, code = self.price()
        shop = self.shop() if "{shop_first}" in template or rng.random() < 0.75 else None
        date, iso = self.date()
        preposition = rng.choice(["at", "from"])
        sentence = template.format(
            who=rng.choice(FIRST_NAMES + ["I", "We", "She", "He"]) if template.startswith("{who}")
            else rng.choice(FIRST_NAMES + ["I", "we", "she", "he"]),
            got=rng.choice(VERBS), things=things, things_first=capitalised(things),
            price=price, each=rng.choice([" each", " apiece"]) if quantity > 1 else "",
            shop=f"{preposition} {shop}" if shop else "", shop_first=f"At {shop}",
            date=f"on {date}", date_first=f"On {date},")
        # A shop left out leaves doubled spaces and stray commas.
        sentence = " ".join(sentence.split())
        sentence = sentence.replace(" .", ".").replace(" ,", ",").replace(",,", ",")
        answer = (f'{{"item":{json.dumps(item)},"quantity":{quantity},"price":{amount},"currency":"{code}",'
                  f'"shop":{json.dumps(shop)},"date":{json.dumps(iso)}}}')
        json.loads(answer)
        return sentence, answer


def unique(maker, count, taken):
    examples = []
    while len(examples) < count:
        sentence, answer = maker.example()
        if sentence not in taken:
            taken.add(sentence)
            examples.append((sentence, answer))
    return examples


def write(path, examples):
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for sentence, answer in examples:
            messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": sentence},
                        {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--train", type=int, default=1800)
    parser.add_argument("--test", type=int, default=200)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    options = parser.parse_args()
    taken = set()
    write(options.out / "train.jsonl", unique(Maker(random.Random(options.seed), False), options.train, taken))
    write(options.out / "test.jsonl", unique(Maker(random.Random(options.seed + 1), True), options.test, taken))


if __name__ == "__main__":
    main()
