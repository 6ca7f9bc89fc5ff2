/*
 * internal.h
 *		What the files of this folder share.
 */
#ifndef STRIPE_SYNC_HANDLER_INTERNAL_H
#define STRIPE_SYNC_HANDLER_INTERNAL_H

#include "base/base.h"
#include "base/compat.h"
#include "handler/handler.h"

/* ---- handler_setup.c ---- */

compat_noreturn extern void handler_missing(const char *name);

#endif /* STRIPE_SYNC_HANDLER_INTERNAL_H */
