"""Folding: what looks equal is equal, in any script."""

import unicodedata

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.texts.words import dominant_script, fold, normalized, similarity_tokens, spacing_normalized, words


def test_latin_words_are_lower_case_runs_of_letters_and_digits():
    assert words("Don't re-do C++ code_2 — naïve 3.14") == [
        "don",
        "t",
        "re",
        "do",
        "c",
        "code",
        "2",
        "naive",
        "3",
        "14",
    ]


@pytest.mark.parametrize(
    "variant",
    [
        "Тhe quіck brоwn fох jumрѕ",  # Cyrillic look-alikes
        "Τhe quick brοwn fοx jumps",  # Greek look-alikes
        "The qu\u200bick br\u200dow\u00adn fox\ufeff jumps",  # zero-width characters, soft hyphen
        "Ｔｈｅ ｑｕｉｃｋ ｂｒｏｗｎ ｆｏｘ ｊｕｍｐｓ",
        "The\u00a0quick\u2003brown\U000e0041\U000e0042 fox\u3000jumps",  # no-break spaces and invisible tags
        "𝐓𝐡𝐞 𝓆𝓊𝒾𝒸𝓀 𝕓𝕣𝕠𝕨𝕟 𝖿𝗈𝗑 𝚓𝚞𝚖𝚙𝚜",  # mathematical alphabets
        "Thé qüick brôwn fôx jûmps",
        "THE  QUICK\tBROWN\r\nFOX, JUMPS!",
        "Tʜᴇ ǫuick ʙʀᴏᴡɴ ꜰᴏx ᴊᴜᴍᴘs".replace("ǫ", "q"),
        "The qu\ufe0fick br\u034fown fox jumps",  # variation selector, grapheme joiner
    ],
    ids=[
        "cyrillic",
        "greek",
        "zero-width",
        "fullwidth",
        "nbsp-and-tags",
        "math",
        "accents",
        "case",
        "small-caps",
        "marks",
    ],
)
def test_texts_that_look_equal_fold_to_the_same_words(variant: str):
    assert normalized(variant) == "the quick brown fox jumps"


def test_scripts_without_spaces_give_one_word_per_character():
    assert words("写一首诗 about AI") == ["写", "一", "首", "诗", "about", "ai"]
    assert len(words("สวัสดี")) == 6
    assert words("ひらガナ")[0] == "ひ"


def test_composed_and_decomposed_forms_have_the_same_words():
    for text in ("한국어 문장", "がぎぐ パン", "Ångström café", "Йод ёлка"):
        assert words(unicodedata.normalize("NFC", text)) == words(unicodedata.normalize("NFD", text))


def test_vowel_signs_of_indic_scripts_survive():
    assert words("के") != words("का")
    assert words("नमस्ते दुनिया") == [unicodedata.normalize("NFKD", w) for w in ("नमस्ते", "दुनिया")]


def test_arabic_vowel_points_and_the_stretching_sign_do_not_matter():
    assert words("مَرْحَبًا") == words("مرحبا") == words("مرحـــبا")


def test_digits_of_any_script_are_the_same_number():
    assert words("٣٤ ३४ ３４ 34") == ["34", "34", "34", "34"]


def test_a_text_of_symbols_resembles_itself():
    assert words("🙂🙃") == []
    assert similarity_tokens("🙂 🙃") == ["🙂", "🙃"]


def test_folding_greek_keeps_equal_words_equal_and_capitals_look_latin():
    assert normalized("ΗΝ") == "hn"
    assert words("Καλημέρα") == words("καλημερα")


@settings(deadline=None)
@given(st.text())
def test_folding_is_a_character_map_and_idempotent(text: str):
    assert fold(text) == "".join(fold(character) for character in text)
    assert words(normalized(text)) == words(text)


def test_spacing_normalization_keeps_operators_and_drops_the_invisible():
    frame = pl.DataFrame(
        {"t": ["What is\u200b 3 + 4?", "what  is 3 - 4? ", "WHAT IS 3 + 4?", "ｗｈａｔ is\u00a03 + 4?"]}
    )
    assert frame.select(spacing_normalized(pl.col("t")))["t"].to_list() == [
        "what is 3 + 4?",
        "what is 3 - 4?",
        "what is 3 + 4?",
        "what is 3 + 4?",
    ]


def test_the_dominant_script_is_the_one_with_most_letters():
    texts = ["Hello мир", "Привет to всем людям", "写一首诗 AI", "42 + 1 🙂", "", "שלום עולם", "السلام عليكم"]
    scripts = pl.DataFrame({"t": texts}).select(dominant_script(pl.col("t")))["script"].to_list()
    assert scripts == ["latin", "cyrillic", "han", None, None, "hebrew", "arabic"]
