"""Licence names as sources write them: what they are made of, and what some of them forbid."""

import re

#: Names that forbid commercial use, as they are written in the wild.
NON_COMMERCIAL = r"(?i)(^|[\s-])NC($|[\s-])|non-?commercial|research[- ]only"

#: Terms of a service or model that forbid training other models on what it writes.
TEACHER_TERMS = r"(?i)^LicenseRef-.*terms|(openai|anthropic|gemini|google|cohere|mistral)\b.*\bterms|\bteacher[- ]terms"


def parts_of(stated: str | None) -> list[str]:
    """The licences joined in one statement, in order, each once.

    >>> parts_of("CC-BY-4.0 AND (Apache-2.0 AND LicenseRef-OpenAI-terms)"), parts_of(None)
    (['CC-BY-4.0', 'Apache-2.0', 'LicenseRef-OpenAI-terms'], [])
    """
    if not stated or not stated.strip():
        return []
    found = (part.strip(" ()") for part in re.split(r"\s+AND\s+", stated))
    return list(dict.fromkeys(part for part in found if part))
