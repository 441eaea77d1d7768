// bf16_2_4: bf16 where at most two of every four consecutive numbers are not zero (pattern.h).
#include "codecs/pattern.h"

namespace thimble {

const Codec kBf16In24 = {
    .name = "bf16_2_4",
    .description = "2:4 sparse bf16: two of every four numbers and a mask, blocks of 32",
    .block = in_2_4::kBlock,
    .block_bytes = in_2_4::kBytes,
    .max_error = 1,  // of a number that is left out
    .decode = in_2_4::decode<kBf16>,
    .encode = in_2_4::encode<kBf16>,
};

}  // namespace thimble
