"""When an evolved prompt is not taken: Evol-Instruct's elimination rules, as checks on texts."""

import re

from methods.asking.prompt_files import one_line
from methods.texts.words import words

#: Words that carry no content: an answer made of nothing else says nothing.
STOP_WORDS = frozenset({
    "a", "about", "all", "am", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by", "can", "could", "did",
    "do", "does", "for", "from", "had", "has", "have", "he", "her", "here", "him", "his", "how", "i", "if", "in", "into",
    "is", "it", "its", "just", "me", "my", "no", "nor", "not", "of", "on", "or", "our", "out", "over", "she", "should",
    "so", "some", "such", "than", "that", "the", "their", "them", "then", "there", "these", "they", "this", "those", "to",
    "too", "up", "very", "was", "we", "were", "what", "when", "where", "which", "who", "why", "will", "with", "would",
    "you", "your",
})  # fmt: skip

#: Words of the prompt that asks for the evolution, which betray that it was copied instead of followed.
SCAFFOLD = (
    "given prompt", "rewritten prompt", "new prompt", "created prompt", "#given prompt#", "#rewritten prompt#",
    "#created prompt#",
)  # fmt: skip

#: A refusal is an answer with this word that is shorter than this many words.
SORRY, SORRY_WORDS = "sorry", 80


def prompt_fault(before: str, after: str, *, max_added_words: int | None = None) -> str | None:
    """Why an evolved prompt is eliminated by its own text: ``unchanged``, ``scaffold-words``, ``too-many-words``.

    >>> prompt_fault("Name a river.", "Name a river!"), prompt_fault("Name a river.", "#Rewritten Prompt#: Name two.")
    ('unchanged', 'scaffold-words')
    """
    if words(before) == words(after):
        return "unchanged"
    folded, known = one_line(after).lower(), one_line(before).lower()
    if any(mark in folded and mark not in known for mark in SCAFFOLD):
        return "scaffold-words"
    if max_added_words is not None and len(after.split()) > len(before.split()) + max_added_words:
        return "too-many-words"
    return None


def answer_fault(answer: str) -> str | None:
    """Why the answer to an evolved prompt eliminates it: ``sorry`` (a short refusal), ``no-content`` (nothing is said).

    >>> answer_fault("I am sorry, I cannot."), answer_fault("It is what it is."), answer_fault("The Loire.")
    ('sorry', 'no-content', None)
    """
    said = words(answer)
    if re.search(rf"\b{SORRY}\b", answer, re.IGNORECASE) and len(answer.split()) < SORRY_WORDS:
        return "sorry"
    return "no-content" if all(word in STOP_WORDS for word in said) else None


def tidied(text: str) -> str:
    r"""An evolved prompt without a heading in front of it and without the tags it was shown in.

    >>> tidied("#Rewritten Prompt#:\nName two rivers.")
    'Name two rivers.'
    """
    bare = re.sub(r"</?prompt>", "", text, flags=re.IGNORECASE).strip()
    return re.sub(r"^#?\s*(?:rewritten|new|created) prompt\s*+#?+\s*+:\s*+", "", bare, flags=re.IGNORECASE).strip()
