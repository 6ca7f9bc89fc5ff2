/*
 * visible.h
 *		Text from outside without characters that are not shown.
 */
#ifndef STRIPE_SYNC_VISIBLE_H
#define STRIPE_SYNC_VISIBLE_H

extern bool text_hides(unsigned int c); /* a character that isn't shown */
extern char *text_visible(const char *text);
extern char *sql_visible(const char *sql);

#endif /* STRIPE_SYNC_VISIBLE_H */
