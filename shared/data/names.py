"""Names of image files: which are read, and which are images that are not."""

# What is read, by Pillow's names of the formats. The content decides, whatever the suffix says.
FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "AVIF": (".avif",),
    "QOI": (".qoi",),
}
# Formats without a mark of their own, which any file might be: only under these suffixes.
FORMATS_BY_SUFFIX = {".dib": ("DIB",), ".tga": ("TGA",)}
IMAGE_SUFFIXES = (
    *(suffix for suffixes in FORMATS.values() for suffix in suffixes),
    *FORMATS_BY_SUFFIX,
    ".npy",
)

# Images, but none that is read: they are named, never passed over in silence.
UNREAD_SUFFIXES = (
    ".apng", ".heic", ".heif", ".hif", ".avifs", ".jxl", ".jxr", ".wdp", ".bpg",
    ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw",
    ".psd", ".psb", ".xcf", ".kra", ".svg", ".ai", ".eps", ".ps", ".pdf", ".wmf", ".emf",
    ".exr", ".hdr", ".pfm", ".fits", ".fit", ".dcm", ".nii", ".nii.gz", ".npz", ".mat",
    ".ico", ".cur", ".icns", ".dds", ".pcx", ".sgi", ".rgb", ".ras", ".im", ".pam", ".xbm", ".xpm",
)  # fmt: skip

# How Cityscapes' raw names end, by the kinds of a data set; the rest is the name of the pair.
CITYSCAPES_ENDINGS = {
    "input": "_gtFine_labelIds",
    "photo": "_leftImg8bit",
    "instance": "_gtFine_instanceIds",
}


def is_image(file_name: str) -> bool:
    """Whether a file is an image that is read, by its suffix; hidden files are none (macOS leaves
    `._*` files on foreign disks)."""
    return file_name.lower().endswith(IMAGE_SUFFIXES) and not file_name.startswith(".")


def is_unread_image(file_name: str) -> bool:
    """Whether a file is an image of a format that is not read, by its suffix."""
    return file_name.lower().endswith(UNREAD_SUFFIXES) and not file_name.startswith(".")
