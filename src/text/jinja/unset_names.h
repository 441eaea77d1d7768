// Names that a template sets before it reads them.
//
// jinja2 settles when it compiles where each name of a scope comes from (jinja2.idtracking): one that the scope reads
// first, from the variables that the template is given; one that it sets first, from nowhere until then, although a
// variable of that name may be given. It shows in loops, macros and blocks, which are scopes of their own within it.
#pragma once

#include "text/jinja/tree.h"

namespace thimble::jinja {

// Fills Tree::unset.
void find_unset_names(Tree& tree);

}  // namespace thimble::jinja
