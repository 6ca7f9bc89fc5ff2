/*
 * postgres_items.h
 *		What the doctor looks at in the area "postgres".
 */
#ifndef STRIPE_SYNC_POSTGRES_ITEMS_H
#define STRIPE_SYNC_POSTGRES_ITEMS_H

#include "finding/finding.h"

/* ---- in server_items.c: worker, sessions, locks, replication, settings ---- */

extern const DoctorArea doctor_postgres_server;

/* ---- in storage_items.c: tables, indexes, vacuum, sizes, wraparound ---- */

extern const DoctorArea doctor_postgres_storage;

#endif /* STRIPE_SYNC_POSTGRES_ITEMS_H */
