// NoProp: every block learns alone to find the embedding of a text's label behind noise. In training no block reads
// what another has made, forwards or backwards.
//
//   Paper      Li et al. 2025, arXiv:2503.24322, NoProp-DT, section 2 and eq. 8
//   Loss       sum over blocks t of eta / 2 (SNR_t - SNR_(t-1)) mean over the width of (u_t - e_y)^2, u_t what block t
//              adds to x + z_(t-1), z_t = sqrt(s_t) e_y + sqrt(1 - s_t) noise, SNR_t = s_t / (1 - s_t), s_t by
//              models/denoising.h;  and CE(head(norm(z_T))), which trains the head;  e_y = row y of the head, of mean
//              square 1, as a number
//   Estimate   the exact gradient of that sum
//   State      none
//   Choice     x is the embedded text, of mean square 1, which learns with block 1 and is a number to the others. Every
//              row of a text has its label and noise, and learns: which row will be read is not known before. z_0 is 0,
//              so that its divergence from noise is nothing
#include "methods/estimator.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"eta", 0.1, 0, 1e6, "of the blocks' losses beside that of the head"},
};

LocalModules modules(const OptionValues&) { return {.denoises = true}; }

}  // namespace

const Estimator kNoprop = {.name = "noprop",
                           .summary = "every block alone finds the label behind noise; for --set block.denoises=1",
                           .paper = "Li et al. 2025",
                           .options = kOptions,
                           .modules = modules};

}  // namespace thimble
