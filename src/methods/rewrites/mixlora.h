// What mixtures of FFNs with LoRAs share (mixlora.cpp). Without the option `chosen` a token goes to one expert.
#pragma once

#include "methods/rewrite.h"

namespace thimble {

// The mixture where a layer is the last of an FFN, else LoRA.
void mixlora_adapt(ModuleRewrite& m);

}  // namespace thimble
