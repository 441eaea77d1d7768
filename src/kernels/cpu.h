// What of this CPU's kind matters beside its instruction sets (core/isa.h).
#pragma once

namespace thimble {

// Whether reading weights once is faster with instructions that fetch them ahead. On Emerald Rapids it is (decoding in
// q4_1 by a third), on Zen 4 it is slower (q4_1 by a tenth, q4_K and q6_K by a sixth): on Intel's.
bool fetches_ahead() noexcept;

}  // namespace thimble
