/* shim.h: see shim.c. A number is the caller's own name for a request, not 0. */
#ifndef UKFILTER_SHIM_H
#define UKFILTER_SHIM_H

#include <stddef.h>

int uk_shim_installed(void);                      /* pyfuse3 goes through here */
void *uk_shim_take(void);                         /* the request whose handler begins, or NULL */
void uk_shim_watch(void *request, size_t number); /* 0: no longer */
extern void (*uk_shim_interrupted)(size_t number);

#endif
