package sqlite

// All threads share one arena for SQLite's memory. The C library of GNU would give
// each thread its own, and as Go runs a connection now on one thread and now on
// another, what is freed in one arena is not there for the next: under load that
// took 10 MB more. It has to be said before the first thread is started.

// #include <stdlib.h>
// #ifdef __GLIBC__
// #include <malloc.h>
// static void __attribute__((constructor)) share_memory(void) { mallopt(M_ARENA_MAX, 1); }
// #endif
import "C"
