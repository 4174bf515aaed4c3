"""Files on the wire, for the parts that see the SDK only."""

from kaon.types.media import Audio, File, Image

__all__ = ["Audio", "File", "Image"]
