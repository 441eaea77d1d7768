// A network beside the model (ladder side tuning and its kin): it reads the residual stream of the frozen model, so
// that no gradient passes through the model's own blocks, and makes what the head reads.
#pragma once

#include "methods/rewrite.h"

namespace thimble {

// Before the names of all its values.
inline constexpr std::string_view kSide = "side.";

// What a technique emits such a network with, `tap` by `tap`. `attributes.codec` is that of the model's activations.
class SideRewrite : public ModuleRewrite {
 public:
  SideRewrite(Graph& graph, const AdaptedModule& module, std::map<std::string, ValueId>& made,
              std::map<std::string, AdapterTensor>& tensors, Role role, NarrowBlocks blocks)
      : ModuleRewrite(graph, module, made, tensors, role), width(blocks.width), blocks_(std::move(blocks)) {}

  const int64_t width;        // of the network
  ValueId stream = kNone;     // its residual stream so far, [rows, width]: the technique's to set
  std::vector<ValueId> rows;  // of taps, the technique's to gather

  // How the weights of a block begin: as a new model's, or as rows and columns of the model's own, where it has such
  // (models/narrow_weights.h).
  enum class Begin { fresh, of_model };
  // The narrow block beside the model's `layer`, and the norm behind the last one.
  ValueId block(int64_t layer, ValueId rows, Begin begin = Begin::fresh);
  ValueId norm(ValueId rows, Begin begin = Begin::fresh);

  // Attention with one head, over the same tokens as the model's own first attention sees, without a window, a bias or
  // positions: y [rows, width]. Where the model has a cache it has one too, called "side.<name>.cache_k" and
  // ".cache_v".
  ValueId attend(ValueId q, ValueId k, ValueId v, const std::string& name);
  // That there is none to go by.
  const Error& failure() const { return failure_; }

  // A weight [out, columns of x] with a bias, called "side.<name>.weight" and ".bias".
  struct Projection {
    int64_t out;
    Initial weight, bias;
  };
  // x W^T + b + addend (kNone: none), in the codec of activations.
  ValueId project(ValueId x, const std::string& name, const Projection& how, ValueId addend = kNone);
  // As torch.nn.Linear begins: uniform in +-1/sqrt(in), with its bias.
  static Projection fresh_projection(int64_t in, int64_t out);
  // A value that trains, called "side.<name>".
  ValueId trained(const std::string& name, const Shape& shape, const Initial& initial);

 private:
  template <class Emit>
  ValueId owned(Begin begin, Emit emit);

  NarrowBlocks blocks_;
  Error failure_;
};

// The graph with the technique's network in it.
Result<Graph> rewrite_beside(const Graph& graph, const RewriteSpec& spec, RewriteUse use, const ModelTaps& taps,
                             std::map<std::string, AdapterTensor>& tensors);

}  // namespace thimble
