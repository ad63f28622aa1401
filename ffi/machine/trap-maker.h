/* Sockets for who connects, made ahead by a thread (trap-maker.c): to make one, and to give it room and a name, costs as much
 * as all that is asked about the program's socket. */
#pragma once
#include <stddef.h>

#include "trap-name.h"

/* AT_REST: what was asked for is there. From there on it is WORKING when who connects asks for others, and comes back by
 * itself; ffi/trap/maker.ts ends it. */
enum { AT_REST = 0, WORKING = 1, MAKER_ENDING = 2, MAKER_ENDED = 3 };
enum { EACH_TIME = 16 };
/* Of a set of processors: 1,024 of them. */
enum { ALLOWED_BYTES = 128 };

struct maker {
  int32_t state;
  int32_t buffer_name, buffer_bytes; /* 4: what to make */
  uint32_t ports[EACH_TIME];
  struct name_parts parts;
  int32_t made_count, made[EACH_TIME]; /* 212: a number below 0 is one that could not be made */
  /* Of who connects: */
  int32_t ready_count, ready[EACH_TIME]; /* 280 */
  char key[8];                           /* whom all those lead to, as of struct target; zeroes: nobody yet */
  uint32_t misses;                       /* how many in a row went elsewhere */
  uint32_t processor;                    /* where who connects runs */
  /* The maker's own: where it does not run, and where it may. */
  uint32_t avoided, unused;
  uint64_t allowed[ALLOWED_BYTES / 8];
  char stack[4096] __attribute__((aligned(16)));
};
_Static_assert(offsetof(struct maker, made_count) == 212 && offsetof(struct maker, ready_count) == 280, "ffi/trap/maker.ts");
_Static_assert(offsetof(struct maker, key) == 348 && sizeof(struct maker) == 4608, "ffi/trap/maker.ts");
