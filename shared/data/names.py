"""Names of image files."""

# What is read: by Pillow, or by NumPy.
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp", ".npy")

# How Cityscapes' raw names end, by the kinds of a data set; the rest is the name of the pair.
CITYSCAPES_ENDINGS = {
    "input": "_gtFine_labelIds",
    "photo": "_leftImg8bit",
    "instance": "_gtFine_instanceIds",
}


def is_image(file_name: str) -> bool:
    """Whether a file is an image by its suffix; hidden files are none (macOS leaves `._*` files on
    foreign disks)."""
    return file_name.lower().endswith(IMAGE_SUFFIXES) and not file_name.startswith(".")
