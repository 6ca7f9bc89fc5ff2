/*
 * dashboard.h
 *		The state of everything on one page; its functions are called from SQL
 *		alone.
 */
#ifndef STRIPE_SYNC_DASHBOARD_H
#define STRIPE_SYNC_DASHBOARD_H

#endif /* STRIPE_SYNC_DASHBOARD_H */
