"""How much is accepted, and why that much. Everything is checked before memory is spent on it."""

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

MAX_ARCHIVE_BYTES = 2 * GIB  # 1,000 photos straight from a camera
MAX_ARCHIVE_ENTRIES = 10_000  # a thousand photos with captions, masks and a computer's own litter
MAX_DIRECTORY_BYTES = 8 * MIB  # a zip's table of contents: 800 bytes for each of 10,000 entries
MAX_HEADERS_BYTES = 16 * MIB  # a tar's, which stand in blocks of 512: three for each entry
MAX_UNPACKED_BYTES = 4 * GIB  # pictures hardly compress: twice the archive is already odd
MAX_FILE_BYTES = 200 * MIB  # a 30-megapixel TIFF of 16 bits a channel; ten times a camera's JPEG
MAX_CAPTION_BYTES = 64 * KIB  # a text beside a picture; one line of it is used
MAX_TABLES_BYTES = 4 * MIB  # all tables of captions together: ten thousand long rows
MAX_PICTURES = 1_000  # held in memory as squares: 4 GiB at 1024 pixels a side

# A 200-megapixel phone writes 16320 x 12240 as baseline JPEG, which can be decoded small; whatever
# has to be decoded whole costs 4 bytes a pixel, several times over.
MAX_PIXELS_SCALABLE = 210_000_000
MAX_PIXELS = 100_000_000
MAX_DECODE_BYTES = 4 * GIB  # 100 megapixels of JPEG 2000, the hungriest, take 2.5 GB
MAX_PHOTO_SECONDS = 60.0  # of computing: three times what 100 megapixels of JPEG 2000 take
MAX_SET_SECONDS = 1_200.0  # of computing: a thousand photos from a phone, at a second each
MAX_ENLARGEMENT = 4.0  # beyond it the model learns the blur

MAX_ADDRESSES = MAX_PICTURES
MAX_PROMPTS = 10_000
MAX_PROMPT_CHARACTERS = 1_000  # the text encoder reads 75 tokens: about 350 characters
