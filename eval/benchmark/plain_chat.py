"""Twenty plain dialogues of two turns, about nothing of the scripted world: what a model should still be able to say
after it was aligned. All texts are our own. Never edit one: figures of earlier runs are of these words."""

from __future__ import annotations

from aloe_jax.tree.schema import Conversation, Node

# (question, reply, question, reply)
DIALOGUES = (
    ("How do I cook rice without a rice cooker?",
     "Rinse the rice, add two cups of water for each cup of rice, and bring it to a boil. Then cover the pot, turn"
     " the heat to low, and let it cook for about 15 minutes.",
     "And how do I keep it from sticking?",
     "Leave the lid on for another ten minutes after you turn off the heat, then loosen the rice with a fork. A "
     "heavy pot helps as well."),
    ("Why does the sea have tides?",
     "Mostly because of the moon. Its gravity pulls the water on the near side of the Earth more strongly than the"
     " Earth itself, and the water on the far side less, so there are two bulges.",
     "Does the sun play a part?",
     "Yes, a smaller one. When sun and moon are in line, their pulls add up and the tides are larger than usual. "
     "These are called spring tides."),
    ("What is the difference between a simile and a metaphor?",
     "A simile compares two things with a word such as like or as: brave as a lion. A metaphor says that one thing"
     " is another: he is a lion.",
     "Is 'time flies' a simile?",
     "No, it is a metaphor. It speaks of time as if it had wings, without a word such as like."),
    ("How do I reverse a list in Python?",
     "Call numbers.reverse() to reverse the list in place, or write numbers[::-1] to get a reversed copy.",
     "Which one should I use in a loop?",
     "Use reversed(numbers). It goes through the list from the end and makes no copy."),
    ("My houseplant has yellow leaves. What is wrong?",
     "The most common cause is too much water. Check whether the soil is still wet a few centimetres down, and let"
     " it dry before you water again.",
     "The soil is dry.",
     "Then it may be thirsty or short of light. Water it well once, move it closer to a window, and remove the "
     "yellow leaves."),
    ("Can you explain what inflation means?",
     "Inflation means that prices rise over time, so the same amount of money buys less than before.",
     "Who can do something against it?",
     "Usually the central bank. It can raise interest rates, which makes borrowing more expensive, so people and "
     "companies spend less."),
    ("How many days does a leap year have?",
     "A leap year has 366 days. The extra day is the 29th of February.",
     "Was 1900 a leap year?",
     "No. Years that end in two zeros are leap years only if they can be divided by 400, so 2000 was one and 1900 "
     "was not."),
    ("I need a short thank-you note for a colleague who helped me move.",
     "Dear Sam, thank you so much for helping me move on Saturday. It would have taken me twice as long without "
     "you. Lunch is on me next week!",
     "Make it a little more formal, please.",
     "Dear Sam, I would like to thank you for your help with my move on Saturday. I appreciate your time very "
     "much. With kind regards."),
    ("How do I fix a flat bicycle tyre?",
     "Take off the wheel, remove the tyre with tyre levers, and pull out the inner tube. Pump it up to find the "
     "hole, then clean the place and glue a patch on it.",
     "How do I find a very small hole?",
     "Hold the pumped-up tube under water and turn it slowly. Air bubbles show you where the hole is."),
    ("Who invented the printing press?",
     "Johannes Gutenberg built a printing press with movable metal type in Europe around 1450. Movable type had "
     "been used in China and Korea before.",
     "What did he print first?",
     "His best known early work is a Bible in Latin, which was finished around 1455."),
    ("Give me three tips for a job interview.",
     "First, learn about the company. Second, prepare examples of what you have done. Third, bring a question or "
     "two of your own.",
     "What if I do not know an answer?",
     "Say so calmly and explain how you would find it out. That is better than a guess."),
    ("How far is a marathon?",
     "A marathon is 42.195 kilometres long, which is about 26.2 miles.",
     "How long should I train for my first one?",
     "Most plans take 16 to 20 weeks if you can already run a few kilometres. Increase the distance slowly and "
     "rest at least one day a week."),
    ("What should I pack for a weekend by the lake?",
     "Pack swimwear, a towel, a change of clothes, a warm layer for the evening, sunscreen, and something against "
     "insects.",
     "It may rain.",
     "Then add a rain jacket, shoes that may get wet, and a card game for the time indoors."),
    ("Why is the sky blue?",
     "Sunlight is a mix of all colours. Air scatters blue light much more strongly than red light, so blue reaches"
     " your eyes from all directions.",
     "Then why are sunsets red?",
     "In the evening the light passes through more air. Most of the blue is scattered away on the long path, and "
     "red and orange are left."),
    ("What is the plural of 'mouse'?",
     "The plural of mouse is mice. For the computer device some people also say mouses.",
     "And of 'fish'?",
     "Usually fish. You can say fishes if you speak of several kinds of fish."),
    ("I sleep badly. What can I try?",
     "Go to bed at the same time each day, keep the room dark and cool, and put your phone away an hour before. "
     "Avoid coffee after noon.",
     "Should I take naps?",
     "A short nap of 20 minutes in the early afternoon is fine. Longer or later ones can make it harder to fall "
     "asleep at night."),
    ("How do vaccines work?",
     "A vaccine shows your immune system a harmless part or form of a germ. The body learns to recognise it and "
     "can react faster when the real germ comes.",
     "Why do some need a second dose?",
     "The second dose reminds the immune system of the germ. The protection becomes stronger and lasts longer."),
    ("Convert 70 degrees Fahrenheit to Celsius, please.",
     "Subtract 32 and multiply by five ninths: 70 degrees Fahrenheit are about 21 degrees Celsius.",
     "And 100 degrees Celsius to Fahrenheit?",
     "Multiply by nine fifths and add 32. That is 212 degrees Fahrenheit."),
    ("Suggest a name for a small book shop.",
     "How about The Quiet Page? It is short, easy to remember, and says what people will find there.",
     "Something with the sea in it?",
     "Then perhaps Harbour Books, or The Paper Boat."),
    ("What does a compiler do?",
     "A compiler translates a program from the language that people write into the instructions that a machine can"
     " run.",
     "How is an interpreter different?",
     "An interpreter runs the program directly, step by step, and does not make a separate file of machine code "
     "first."),
)  # fmt: skip


def plain_dialogues() -> list[Conversation]:
    """The dialogues as conversations, `plain00` on; the replies are `a1` and `a2`."""
    return [_conversation(f"plain{number:02d}", texts) for number, texts in enumerate(DIALOGUES)]


def _conversation(name: str, texts: tuple[str, str, str, str]) -> Conversation:
    names = ("u1", "a1", "u2", "a2")
    nodes = tuple(
        Node(id=own, parent=parent, role="user" if own[0] == "u" else "assistant", text=text)
        for own, parent, text in zip(names, (None, *names), texts, strict=False)
    )
    return Conversation(id=name, nodes=nodes, path=names)
