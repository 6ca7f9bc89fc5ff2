/*
 * server_looks.h
 *		The items about the server, and what their files share.
 */
#ifndef STRIPE_SYNC_SERVER_LOOKS_H
#define STRIPE_SYNC_SERVER_LOOKS_H

#include "engine/statement.h"
#include "finding/finding.h"

/* ---- in server_words.c ---- */

extern char *server_name(const char *name); /* for a detail or a comment */
extern char *server_setting_hint(const char *name, const char *value);
extern char *server_preload_hint(const char *library);

/* ---- in server_worker.c ---- */

extern void look_at_worker(Finding *finding);
extern void look_at_preload(Finding *finding);
extern void look_at_outbound(Finding *finding);
extern void look_at_version(Finding *finding);

/* ---- in server_sessions.c ---- */

extern void look_at_connections(Finding *finding);
extern void look_at_pooler(Finding *finding);

/* ---- in server_transactions.c ---- */

extern void look_at_idle_in_transaction(Finding *finding);
extern void look_at_long_transactions(Finding *finding);
extern void look_at_blocked_locks(Finding *finding);

/* ---- in server_xids.c ---- */

extern void look_at_xmin_horizon(Finding *finding);
extern void look_at_wraparound(Finding *finding);

/* ---- in server_replication.c ---- */

extern void look_at_replicas(Finding *finding);
extern void look_at_slots(Finding *finding);

/* ---- in server_wal.c ---- */

extern void look_at_wal(Finding *finding);
extern void look_at_archiving(Finding *finding);

/* ---- in server_backups.c ---- */

extern void look_at_backup(Finding *finding);
extern void look_at_restore_test(Finding *finding);

/* ---- in server_statements.c ---- */

extern void look_at_slow_queries(Finding *finding);

/* ---- in server_settings.c ---- */

extern void look_at_pending_restart(Finding *finding);
extern void look_at_timeouts(Finding *finding);
extern void look_at_durability(Finding *finding);
extern void look_at_checksums(Finding *finding);
extern void look_at_autovacuum(Finding *finding);

#endif /* STRIPE_SYNC_SERVER_LOOKS_H */
