// Ctrl-C, and the signals by which a system ends a program, as a request.
#pragma once

namespace thimble {

// Installs the handler of SIGINT: the first asks for a stop, a second one before the first was dealt with ends the
// process (130). `message`: written to standard error at the first; it must live on.
void watch_interrupts(const char* message = nullptr);
// The same for SIGTERM and SIGHUP, of a program that ends by itself once it is asked to; after watch_interrupts(). So
// is a pipe that nobody reads any more, however often it is written to.
void watch_terminations();
bool interrupted();
void clear_interrupts();

}  // namespace thimble
