#!/usr/bin/env python3
"""Writes a small task of classification: messages to a shop, and what each is about.

    train.jsonl, test.jsonl                  {"text", "label"}: for --objective classification
    train-likelihood.jsonl, test-likelihood.jsonl  {"prompt", "completion"}: the label as the next words, for next_token
    test-choice.jsonl                        {"prompt", "choices", "answer"}: the same for eval --metric choice

Messages are made of an opening, a sentence about one topic and a closing. The test set has sentences that the training
set never shows, so that words have to be understood and not sentences remembered; openings and closings say nothing of
the topic, and in a third of the messages another topic is named that is not what is asked about.

The same seed gives the same bytes. Standard library only:

    python3 generate.py [--seed N] [--train N] [--test N] [--out FOLDER]
"""

import argparse
import json
import pathlib
import random

THINGS = """lamp chair kettle jacket keyboard backpack blanket headset blender bicycle desk clock tent camera printer
watch mirror guitar heater drill""".split()

# Of each topic: sentences of the training set, and others of the test set.
TOPICS = {
    "delivery": ("""When will the {thing} arrive?
The tracking page for my {thing} has not moved for four days.
My {thing} was left at the wrong door by the driver.
Can the {thing} be sent to my office instead of my home?
The parcel with the {thing} is a week late.
How long does shipping of a {thing} to the islands take?
The courier says nobody was in, but I waited for the {thing} all day.""",
                 """Where is the parcel with my {thing} right now?
I need the {thing} here before Friday, can the carrier hurry?
The box with the {thing} was delivered to a neighbour that I do not know."""),
    "refund": ("""I would like my money back for the {thing}.
I sent the {thing} back two weeks ago and have not been repaid.
How do I return a {thing} that I do not want any more?
Please cancel the order of the {thing} and give back what I paid.
The {thing} goes back to you, where do I get the return label?
You took back the {thing} but paid me only half of it.""",
               """I changed my mind about the {thing}, can I hand it back and be reimbursed?
After I returned the {thing}, the amount has still not come back to me.
Is there a fee when I give the {thing} back within the month?"""),
    "payment": ("""My card was charged twice for the {thing}.
Can I pay for the {thing} in three parts?
The checkout refuses my credit card when I buy the {thing}.
The bill for the {thing} shows the wrong tax.
Do you take bank transfer for a {thing}?
I need an invoice with our company's name for the {thing}.""",
                """The voucher code is not taken off the price of the {thing} at the till.
Why does my bank show two amounts for one {thing}?
May I settle the invoice for the {thing} at the end of the month?"""),
    "defect": ("""The {thing} makes a loud noise and then stops.
A screw is missing from the {thing}.
The {thing} broke on the second day.
The {thing} does not turn on.
There is a deep scratch on the new {thing}.
My {thing} smells of burnt plastic when it runs.
The zip of the {thing} came off in my hand.""",
               """The {thing} was cracked when I opened the box.
After an hour of use the {thing} gets too hot to touch.
One leg of the {thing} is shorter than the others, so that it wobbles."""),
    "account": ("""I cannot log in since I bought the {thing}.
Please change the mail address of my profile.
How do I delete my account?
The page says my password is wrong, although I have just set it.
I no longer want your newsletter about every new {thing}.
My name is spelt wrong in my profile.""",
                """The link to set a new password never comes.
Can two people share one login with you?
Somebody else seems to have signed in as me last night."""),
    "advice": ("""Which {thing} is best for a small flat?
Does the {thing} come in green?
Is the {thing} safe for children?
What is the difference between the two kinds of {thing}?
Will you have the large {thing} again this year?
How heavy is the {thing}?""",
               """Would this {thing} suit somebody who is very tall?
What is the {thing} made of?
Do you have a {thing} that needs no electricity?"""),
}
OPENINGS = ["", "", "Hello, ", "Hi there. ", "Good morning. ", "Dear team, ", "Quick question: ", "Sorry to bother you. "]
CLOSINGS = ["", "", " Thanks!", " Thank you in advance.", " Kind regards, {name}", " {name}", " Please answer soon."]
ASIDES = ["The delivery was quick, by the way.", "Paying was easy, that is not it.", "I do not want my money back.",
          "The last {thing} from you works well.", "My login is fine, that is not the problem."]
NAMES = "Anna Ben Carla David Elena Omar Priya Kenji Sofia Lucas Emma Noah Grace Leo".split()


def message(random_, sentences):
    parts = [random_.choice(sentences)]
    if random_.random() < 1 / 3:
        parts.insert(random_.randint(0, 1), random_.choice(ASIDES))
    text = random_.choice(OPENINGS) + " ".join(parts) + random_.choice(CLOSINGS)
    return text.format(thing=random_.choice(THINGS), name=random_.choice(NAMES))


def messages(random_, count, part):
    """Different ones, as many of each topic; part: 0 of the training set, 1 of the test set."""
    out, seen = [], set()
    topics = list(TOPICS)
    while len(out) < count:
        topic = topics[len(out) % len(topics)]
        text = message(random_, TOPICS[topic][part].split("\n"))
        if text not in seen:
            seen.add(text)
            out.append((text, topic))
    random_.shuffle(out)
    return out


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--train", type=int, default=720)
    parser.add_argument("--test", type=int, default=180)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    options = parser.parse_args()
    random_ = random.Random(options.seed)
    topics = sorted(TOPICS)
    for name, count, part in (("train", options.train, 0), ("test", options.test, 1)):
        made = messages(random_, count, part)
        prompts = [(f"Message: {text}\nTopic:", topic) for text, topic in made]
        write(options.out / f"{name}.jsonl", [{"text": text, "label": topic} for text, topic in made])
        write(options.out / f"{name}-likelihood.jsonl",
              [{"prompt": prompt, "completion": " " + topic} for prompt, topic in prompts])
        if part == 1:
            write(options.out / "test-choice.jsonl",
                  [{"prompt": prompt, "choices": [" " + other for other in topics], "answer": topics.index(topic)}
                   for prompt, topic in prompts])


if __name__ == "__main__":
    main()
