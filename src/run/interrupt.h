// Ctrl-C as a request.
#pragma once

namespace thimble {

// Installs the handler of SIGINT: the first asks for a stop, a second one before the first was dealt with ends the
// process (130).
void watch_interrupts();
bool interrupted();
void clear_interrupts();

}  // namespace thimble
