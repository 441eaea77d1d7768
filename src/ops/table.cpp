#include "ops/table.h"

#include <array>

#include "ops/blocks.h"
#include "ops/cache_keep.h"
#include "ops/couple.h"
#include "ops/experts.h"
#include "ops/fewer_rows.h"
#include "ops/hybrid_tokens.h"
#include "ops/keep.h"
#include "ops/matrix.h"
#include "ops/recurrent.h"
#include "ops/text_labels.h"
#include "ops/transform.h"
#include "ops/update.h"
#include "ops/weigh_layers.h"

namespace thimble {
namespace {

constexpr std::array kOps = {
    &kLinear,
    &kLinearGroup,
    &kLinearDw,
    &kColumnSum,
    &kEmbedding,
    &kEmbeddingGrad,
    &kRmsNorm,
    &kRmsNormDx,
    &kRmsNormDgain,
    &kLayerNorm,
    &kLayerNormDx,
    &kLayerNormDgain,
    &kRope,
    &kAttention,
    &kAttentionGrad,
    &kAttentionTangent,
    &kAttentionCached,
    &kActivation,
    &kActivationGrad,
    &kAdd,
    &kDetach,
    &kZeros,
    &kReduce,
    &kQr,
    &kEigh,
    &kCholesky,
    &kSvd,
    &kSlice,
    &kPad,
    &kDropout,
    &kGather,
    &kScatter,
    &kReplaceRows,
    &kReplaceRowsGrad,
    &kChooseRows,
    &kPutRows,
    &kTopK,
    &kTopSoftmax,
    &kSmallestPlaces,
    &kPickPlaces,
    &kPutPlaces,
    &kSegmentSum,
    &kOffDiagonal,
    &kBlockLinear,
    &kBlockLinearDw,
    &kBlockProduct,
    &kBlockInverse,
    &kLinearCrossEntropy,
    &kLinearCrossEntropyDw,
    &kLinearCrossEntropyDbias,
    &kLinearCrossEntropyTangent,
    &kDrawTargets,
    &kHybridTokens,
    &kTextLabels,
    &kLinearDistillation,
    &kLinearDistillationDw,
    &kLinearDistillationTangent,
    &kPointwise,
    &kSquaredNorm,
    &kClipScale,
    &kKeepLargest,
    &kInverseFactor,
    &kRoundColumns,
    &kRoundWeighted,
    &kChooseExperts,
    &kExpertLoad,
    &kRoute,
    &kRouteGrad,
    &kRouteTangent,
    &kDispatch,
    &kCombine,
    &kCombineGrad,
    &kExpertLinear,
    &kExpertLinearDw,
    &kDeltaRule,
    &kDeltaRuleGrad,
    &kDeltaRuleCached,
    &kShortConv,
    &kShortConvDx,
    &kShortConvDw,
    &kShortConvCached,
    &kCacheKeep,
    &kGroupRanges,
    &kToBytes,
    &kFromBytes,
    &kSlopeCodes,
    &kSlopeGradient,
    &kUnitNorm,
    &kUnitNormDx,
    &kUnitNormDgain,
    &kSampleRows,
    &kSampledDw,
    &kCouple,
    &kWeighLayers,
    &kWeighLayersGrad,
    &kWeighLayersTangent,
};

}  // namespace

std::span<const Op* const> ops() { return kOps; }

}  // namespace thimble
