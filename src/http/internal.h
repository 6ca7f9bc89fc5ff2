/*
 * internal.h
 *		Functions and types shared by the files of the HTTP client.
 */
#ifndef STRIPE_SYNC_HTTP_PARTS_H
#define STRIPE_SYNC_HTTP_PARTS_H

#include <signal.h>

#include "base/base.h"
#include "http/http.h"

/* ---- in sockets.c: wait for sockets and the latch ---- */
#define SOCKETS_AT_ONCE 64

typedef struct SocketReady
{
	int fd;
	bool readable; /* both false: it has an error */
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

/* ---- in response.c: read a response ---- */
typedef struct AnswerReader
{
	HttpAnswer answer; /* must be first: an answer is cast to its reader */
	size_t room;	   /* allocated for its body, 0: none */
	size_t expected;   /* its size by Content-Length; 0: unknown */
	size_t most;	   /* bytes of it that are read */
	char *body;		   /* of the request, while libcurl sends it */
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

/* ---- in url.c: which requests are allowed ---- */
struct sockaddr;

extern const char *request_refusal(const HttpRequest *request);
extern bool address_is_loopback(const struct sockaddr *address);

/* ---- in http.c: a URL parsed by libcurl ---- */
typedef enum UrlPart
{
	URL_SCHEME, /* in lower case */
	URL_HOST,
	URL_PORT, /* the default of the scheme if none is given */
	URL_PATH, /* without dot segments */
	URL_USER, /* this and the following are NULL if absent */
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
