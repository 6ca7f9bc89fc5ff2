/*
 * http_parts.h
 *		What http.c, transfer.c, sockets.c and url.c show each other.
 */
#ifndef STRIPE_SYNC_HTTP_PARTS_H
#define STRIPE_SYNC_HTTP_PARTS_H

#include <signal.h>

#include "http.h"

/* ---- in sockets.c: sockets and the latch, one wait ---- */
#define SOCKETS_AT_ONCE 64

typedef struct SocketReady
{
	int fd;
	bool readable; /* neither: it has an error */
	bool writable;
} SocketReady;

extern void sockets_setup(void);
extern int sockets_allowed(void);
extern int socket_make(int family, int type, int protocol);
extern int socket_close(void *user, int fd);
extern bool sockets_reap(void);
extern void socket_watch(int fd, bool reading, bool writing, bool known);
extern void socket_forget(int fd);
extern int sockets_ready(SocketReady ready[SOCKETS_AT_ONCE]);
extern bool sockets_wait(long timeout_ms, uint32 wait_event);
extern int64 clock_us(void);
extern sigset_t signals_block(void);
extern void signals_restore(sigset_t before);

/* ---- in http_answer.c: an answer as it comes in ---- */
typedef struct AnswerReader
{
	HttpAnswer answer; /* first: who has the answer has its reader */
	size_t room;	   /* of its body */
	size_t expected;   /* bytes of it, as a header says; 0: none does */
	size_t most;	   /* that are read of it */
	char *body;		   /* the request's, while libcurl sends it */
	size_t body_length;
	int header_lines;
	size_t header_bytes;
} AnswerReader;

extern bool answer_begin(AnswerReader *reader, const HttpRequest *request);
extern void answer_fail(AnswerReader *reader, HttpFault fault,
						const char *trouble);
extern void answer_wipe(AnswerReader *reader);
extern size_t answer_take_body(char *bytes, size_t size, size_t count,
							   void *reader);
extern size_t answer_take_header(char *line, size_t size, size_t count,
								 void *reader);

/* ---- in url.c: which requests are made ---- */
struct sockaddr;

extern const char *request_refusal(const HttpRequest *request);
extern bool address_is_loopback(const struct sockaddr *address);

/* ---- in http.c: a URL taken apart by libcurl ---- */
typedef enum UrlPart
{
	URL_SCHEME, /* in lower case */
	URL_HOST,
	URL_PORT, /* the scheme's own where none is given */
	URL_PATH, /* without dot segments */
	URL_USER, /* this and those below are NULL where they are missing */
	URL_PASSWORD,
	URL_FRAGMENT,
	NURLPARTS
} UrlPart;

typedef struct UrlParts
{
	char *part[NURLPARTS];
} UrlParts;

extern bool url_read(const char *url, UrlParts *parts);
extern void url_free(UrlParts *parts);

#endif /* STRIPE_SYNC_HTTP_PARTS_H */
