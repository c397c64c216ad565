import unicodedata

import pytest
from hypothesis import given, settings, strategies as st

from windownet.data.tokens import tokenize


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("see https://a.org/b?c=d#e_1, or (www.b.com/).", "see|https://a.org/b?c=d#e_1|,|or|(|www.b.com/|)|."),
        ("www.!", "www|.|!"),
        ("mail a.b+c@d-e.co.uk now", "mail|a.b+c@d-e.co.uk|now"),
        ("a@b is none", "a|@b|is|none"),
        # Any longer and a line of +a+a+a would be gone through once for each of its signs.
        (f"{'x' * 64}@b.org {'x' * 65}@b.org", f"{'x' * 64}@b.org|{'x' * 65}|@b|.|org"),
        ("@some_one #tag1 # @", "@some_one|#tag1|#|@"),
        ("the U.S. and J.K. Rowling, e.g. here", "the|U.S.|and|J.K.|Rowling|,|e.g.|here"),
        ("Mr. Co. Dr.x St.", "Mr.|Co.|Dr|.|x|St."),
        ("(J. Smith) John F. Kennedy, \u00c9. Zola", "(|J.|Smith|)|John|F.|Kennedy|,|\u00c9.|Zola"),
        ("So did I. He took plan B. then c. Or D.", "So|did|I|.|He|took|plan|B|.|then|c|.|Or|D|."),
        ("No. 5, No.5, he said no. Then", "No.|5|,|No.|5|,|he|said|no|.|Then"),
        ("1,000.5 10:30 3rd 50% 12/31/99 1.", "1,000.5|10:30|3rd|50%|12/31/99|1|."),
        ("the 1990s, a 20-year-old 747-400, 10am 3D", "the|1990s|,|a|20-year-old|747-400|,|10am|3D"),
        ("$5 -3 +4", "$|5|-|3|+|4"),
        ("don't can't isn\u2019t won't've", "do|n't|ca|n't|is|n\u2019t|wo|n't|'ve"),
        ("it's they'll I'd I'm we've you\u2019re", "it|'s|they|'ll|I|'d|I|'m|we|'ve|you|\u2019re"),
        ("O'Brien D\u2019Angelo's rock'n'roll", "O'Brien|D\u2019Angelo|'s|rock'n'roll"),
        ("the dogs' 'quoted' words", "the|dogs|'|'|quoted|'|words"),
        ("well-known AT&T a - b", "well-known|AT&T|a|-|b"),
        ("wait... what--no \u2026 ?!", "wait|...|what|--|no|\u2026|?|!"),
        (
            "\u4e2d\u6587 na\u00efve \u00c9mile\u2028next\u00a0one\u3000two",
            "\u4e2d\u6587|na\u00efve|\u00c9mile|next|one|two",
        ),
        ("\U0001f600ok\u200b!", "\U0001f600|ok|\u200b|!"),
        # Vowel signs and other marks on letters are characters of their own, as are joiners.
        (
            "\u0939\u093f\u0928\u094d\u0926\u0940 \u092d\u093e\u0937\u093e",
            "\u0939\u093f\u0928\u094d\u0926\u0940|\u092d\u093e\u0937\u093e",
        ),
        ("\u0e17\u0e35\u0e48\u0e19\u0e35\u0e48!", "\u0e17\u0e35\u0e48\u0e19\u0e35\u0e48|!"),
        (
            "\u0627\u0644\u0639\u064e\u0631\u064e\u0628\u0650\u064a\u0651 #\u05e9\u05c1\u05dc",
            "\u0627\u0644\u0639\u064e\u0631\u064e\u0628\u0650\u064a\u0651|#\u05e9\u05c1\u05dc",
        ),
        ("\u0645\u06cc\u200c\u062e a\u00adb", "\u0645\u06cc\u200c\u062e|a\u00adb"),
        ("a 1\ufe0f\u20e3 \u2764\ufe0fb", "a|1\ufe0f\u20e3|\u2764\ufe0f|b"),
        (
            "\U0001f468\u200d\U0001f469\u200d\U0001f467\U0001f44d\U0001f3fd",
            "\U0001f468\u200d\U0001f469\u200d\U0001f467|\U0001f44d\U0001f3fd",
        ),
        ("\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", "\U0001f1e9\U0001f1ea|\U0001f1eb\U0001f1f7"),
        ("\u0301a\u200d!", "\u0301|a\u200d|!"),
        # A mark that stands for an iota is written under letters; iota itself is one of them.
        ("(\u03b9\u03b4\u03ad\u03b1) -\u0399\u03bb \u1fbe", "(|\u03b9\u03b4\u03ad\u03b1|)|-|\u0399\u03bb|\u1fbe"),
        (
            "www.a.org/\u0939\u093f\u0928\u094d\u0926\u0940 e\u0301.u.",
            "www.a.org/\u0939\u093f\u0928\u094d\u0926\u0940|e\u0301.u.",
        ),
        (
            "\U0001f1e9\U0001f1ea\ufe0f\U0001f3f4\U000e0067\U000e007f",
            "\U0001f1e9\U0001f1ea\ufe0f|\U0001f3f4\U000e0067\U000e007f",
        ),
        (" \t ", ""),
        ("", ""),
    ],
)
def test_the_rule(text, words):
    assert [token.text for token in tokenize(text)] == (words.split("|") if words else [])


def test_normal_forms_make_the_same_words():
    text = "Marie Nguy\u1ec5n, \u00c9. Zola, na\u00efve-\u00e9t\u00e9 d\u2019\u00e9tat 3\u00e8me @caf\u00e9 caf\u00e9's"
    apart = [unicodedata.normalize("NFC", token.text) for token in tokenize(unicodedata.normalize("NFD", text))]
    assert apart == [token.text for token in tokenize(text)]


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "a",
                "U.S.",
                "n't",
                "'s",
                "\u2019",
                "-",
                ".",
                "&",
                "1",
                ",",
                "@",
                "www.",
                "http://",
                " ",
                "\t",
                "\u0301",
                "\u200d",
            ]
        )
        | st.text(max_size=3)
    ).map("".join)
)
def test_nothing_is_lost_but_blanks(text):
    end = 0
    for token in tokenize(text):
        assert token.text == text[token.start : token.end]
        assert token.text
        assert not any(map(str.isspace, token.text))
        assert text[end : token.start].strip() == ""
        end = token.end
    assert text[end:].strip() == ""
