// gzip and Zstandard files as what they hold, in a temporary file of their own: readers seek in it.
#pragma once

#include "files/file_kind.h"

namespace thimble {

// `kind` is gzip or zstd. The result's path() is that of `packed`, for messages. The temporary file lies in $TMPDIR, or
// else /var/tmp, has no name and is gone when it is closed. Memory: under a megabyte for gzip, for zstd what its window
// asks for, 8 MB at most unless it was made with --long, which is refused.
Result<InputFile> decompress(const InputFile& packed, const FileKind& kind);

}  // namespace thimble
