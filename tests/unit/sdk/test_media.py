import io
import wave
from pathlib import Path

import numpy as np
import pytest

import kaon
from kaon.types.media import read_base64, sniff


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"RIFF....WAVEfmt ", "audio/wav"),
        (b"RIFF....WEBP", "image/webp"),
        (b"?", ""),
    ],
)
def test_the_first_bytes_show_the_type(content: bytes, kind: str) -> None:
    assert sniff(content) == kind


def test_a_file_of_the_wrong_family_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="image/"):
        kaon.Image(b"plain")
    with pytest.raises(ValueError, match="audio/"):
        kaon.Audio(b"\x89PNG\r\n\x1a\n")
    assert kaon.Image(b"anything", media_type="image/x-own").media_type == "image/x-own"


def test_a_file_is_read_and_saved(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    image = kaon.Image.read(tmp_path / "a.gif")
    assert (image.name, image.media_type, len(image)) == ("a.gif", "image/gif", 6)
    image.save(tmp_path / "b.gif")
    assert kaon.Image.read(tmp_path / "b.gif").content == image.open().read()
    assert "GIF89a" not in repr(image)


@pytest.mark.parametrize(("width", "dtype", "top"), [(1, "u1", 255), (2, "<i2", 32767), (4, "<i4", 2**31 - 1)])
def test_a_wav_file_is_decoded_to_samples(width: int, dtype: str, top: int) -> None:
    low = 0 if width == 1 else -top - 1
    stream = io.BytesIO()
    with wave.open(stream, "wb") as sound:
        sound.setparams((2, width, 8000, 0, "NONE", ""))
        sound.writeframes(np.array([[low, top], [top, low]], dtype=dtype).tobytes())
    samples, rate = kaon.Audio(stream.getvalue()).samples()
    assert (rate, samples.shape, samples.dtype) == (8000, (2, 2), np.float32)
    assert np.allclose(samples, [[-1, 1], [1, -1]], atol=0.01)
    with pytest.raises(ValueError, match="PCM WAV"):
        kaon.Audio(b"OggS").samples()


def test_base64_is_read_in_both_alphabets() -> None:
    assert read_base64("-_8=") == read_base64("+/8=") == read_base64("-_8") == b"\xfb\xff"
    with pytest.raises(ValueError, match="base64"):
        read_base64("?")


@pytest.mark.parametrize(
    "told",
    [{"media_type": "image/png\r\nset-cookie: admin=1"}, {"media_type": "png"}, {"name": "a\r\nset-cookie: b"}],
)
def test_a_file_takes_nothing_that_is_invalid_in_a_header(told: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"is not a media type|file name"):
        kaon.File(b"x", **told)
