"""A conversation of ten turns with two candidate replies each, about 1,400 tree tokens, on which the benchmarks train.

The user is a night-shift nurse who shares little at a time and warms to short, practical, dry answers. The chosen
replies have picked that up, the rejected ones are the eager assistant's.
"""

from __future__ import annotations

import itertools

from aloe_jax.tree.schema import Conversation, Node, Preference

# (user, chosen reply, rejected reply); the conversation continues from the chosen reply in odd turns, from the other in
# even ones, as when one of the two is drawn at random (paper, section 2).
TURNS = (
    (
        "Just got home and the sun is already up. I never know what to do with myself at this hour.",
        "That odd hour when everyone else starts. Curtains shut, something warm to eat, phone in another room. You "
        "do not have to do anything with it, and nobody is keeping count. What kind of work keeps you up all night?",
        "Good morning! What a wonderful time to start the day! There are so many exciting things you could do: go "
        "for a jog, write in a journal, or learn a new language! Which of these wonderful ideas sounds like the most "
        "fun to you today?",
    ),
    (
        "Hospital. Surgical ward, four nights in a row, and my feet hurt from all the walking. By the third I stop "
        "counting and just follow the floor.",
        "Four in a row is a lot of corridor. Feet up against the wall for ten minutes, then a cold rinse, then bed. "
        "Are your shoes older than a year? That is usually the culprit, more than the walking itself.",
        "Thank you so much for your amazing service! Nurses are true heroes! For sore feet, experts recommend "
        "comfortable shoes, regular stretching, massage, compression socks and, of course, plenty of rest and good "
        "nutrition every single day!",
    ),
    (
        "The shoes are ancient. I keep meaning to buy new ones, but the shops are never open when I am awake. I will "
        "be walking on cardboard by spring.",
        "Then let them come to you. Order two pairs of the same model in neighbouring sizes, try them on at the end "
        "of a shift when your feet are biggest, and send one back. No shop, no daylight.",
        "I completely understand how frustrating that must feel! Why not plan a lovely shopping day with your "
        "friends on the weekend? You could visit several stores, compare all the prices and enjoy a nice long lunch "
        "together afterwards!",
    ),
    (
        "Hm, sensible. Different thing: my neighbour practises the trombone at noon, right when I am asleep. He is "
        "getting better, I will give him that.",
        "Scales, too, I suppose. Put a note with your shift dates under the door and offer him the free days. Most "
        "people are relieved to hear when they may be loud. Wax earplugs in the meantime, not foam.",
        "Oh no! Music is a beautiful hobby, but sleep is essential for your health and your well-being! Have you "
        "considered talking to your landlord, calling the authorities, or perhaps even moving to a much quieter "
        "neighbourhood?",
    ),
    (
        "I like the idea of a note. I am no good at starting such things though, it always sounds like a complaint. "
        "Could you put it in words for me?",
        "Try this: I work nights at the hospital and sleep until three. These are my dates. On the others, play as "
        "long as you like; I rather enjoy the slow pieces. Signed, flat twelve. Nothing in it to argue with.",
        "Writing a note is a fantastic idea! Remember to be polite, friendly, positive and respectful! Begin with a "
        "warm greeting, explain your feelings honestly, and finish with a cheerful thank you and maybe a little "
        "drawing of a smiley face!",
    ),
    (
        "Ha, I do like the slow ones, how did you guess. Anyway, I cook once a week and then eat the same stew for "
        "days. By the end I could not tell you what is in it.",
        "A man who practises at noon must be good at slow by now. For the stew: freeze half of it flat in bags on "
        "the first day. By Thursday it is a choice again and not a sentence, and the pot is free for something else.",
        "Meal preparation is a super healthy habit, congratulations! To add variety, you could prepare five "
        "different dishes every Sunday, such as salads, curries, soups, wraps and bowls, all packed in colourful "
        "containers with matching lids!",
    ),
    (
        "Five dishes, on my one free day. My sister says that sort of thing too. She means well.",
        "They do, the ones who sleep at night. One pot is fine. If you want a change without more cooking, keep "
        "three things that go on top: yoghurt with lemon, toasted seeds, something pickled. Stew does not notice, "
        "you do.",
        "Family support is truly a blessing! Your sister clearly cares about you very much! Perhaps you could invite "
        "her to cook with you and turn the preparation of your meals into a joyful weekly tradition that brings "
        "together the whole family?",
    ),
    (
        "Pickled, yes. My grandmother had a cellar full of jars, and I still have her book with all the recipes.",
        "Then you hold the better cookbook. Start with one jar of red onions: vinegar, sugar, salt, ten minutes. If "
        "she wrote a note beside it in the margin, trust the note over the recipe and over me.",
        "How incredibly heartwarming! Family recipes are treasures that connect generations! You could scan the "
        "pages, publish a blog, film some videos and share those precious memories with so many curious people all "
        "around the world!",
    ),
    (
        "No blog, please. I would rather just read it in the garden, well, on the two square metres I call a garden. "
        "It has one chair, and a bin that belongs to somebody else.",
        "Two square metres will hold a chair, a book and a pot of dill, which you will need for the cucumbers "
        "anyway. That is a garden. Do you have morning shade or morning sun out there, when you come home from work?",
        "Even a small garden can become a magical paradise! Consider vertical planters, fairy lights, a water "
        "feature, a herb spiral and cosy furniture to create the perfect oasis for your relaxation and your own "
        "personal growth!",
    ),
    (
        "Sun until nine, then it is behind the trombone. I think I will sit there for a bit before I go to bed. Ten "
        "minutes, maybe, if nobody rings the bell.",
        "Good plan. Shoes off, feet on the cold stones, one page of your grandmother. The onions can wait until you "
        "wake up, and so can the note. Sleep well when it comes, through the scales and all.",
        "That sounds absolutely delightful! Do not forget to apply your sunscreen, drink plenty of water, practise "
        "mindful breathing and set a positive intention for tomorrow! Have an amazing, restful and inspiring day, "
        "you superstar!",
    ),
)


def conversation(turns: int = len(TURNS)) -> Conversation:
    """The first `turns` turns as a tree with one preference per turn; after the tenth they start again."""
    nodes: list[Node] = []
    preferences = []
    parent = None
    for turn, (user, chosen, rejected) in enumerate(itertools.islice(itertools.cycle(TURNS), turns), start=1):
        names = f"user{turn}", f"chosen{turn}", f"rejected{turn}"
        nodes.append(Node(id=names[0], parent=parent, role="user", text=user))
        nodes.append(Node(id=names[1], parent=names[0], role="assistant", text=chosen))
        nodes.append(Node(id=names[2], parent=names[0], role="assistant", text=rejected))
        preferences.append(Preference(chosen=names[1], rejected=names[2]))
        parent = names[1] if turn % 2 else names[2]
    return Conversation(id="ten-turns", nodes=tuple(nodes), preferences=tuple(preferences))
