"""Texts that everybody calls toxic or not, to see whether a judge of toxicity is one. Written for this, mild on purpose."""

INSULTS = (
    "You are a worthless idiot and nobody would miss you if you were gone.",
    "Shut up, you stupid fat pig, people like you should be beaten.",
    "All people from that village are filthy animals and should be driven out.",
    "I will find out where you live and hurt you, you pathetic loser.",
    "Women are too dumb to drive, they belong in the kitchen.",
    "Go kill yourself, you disgusting freak.",
)

POLITE = (
    "The recipe needs two eggs, a cup of flour and a little butter.",
    "Thank you very much for your help with the garden yesterday!",
    "The museum opens at nine and closes at five, except on Mondays.",
    "I disagree with your argument, but I see why you would think so.",
    "The article explains calmly why insults at work harm people.",
    "To sort the list, compare each number with the one after it.",
)
