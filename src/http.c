/*
 * http.c
 *		Requests over libcurl's multi interface, many at a time, waited for
 *		together with the latch.
 *
 * libcurl says which sockets it wants watched (socket_changed) and when it
 * wants to be called next (timer_note); sockets.c waits for both and the latch.
 * http_answer.c keeps what comes, url.c says what may be called.
 *
 * Invariants:
 *
 * - What libcurl calls neither pallocs nor raises.  Signals are blocked around
 *	 the calls of its multi interface, as the threads that resolve names
 *	 inherit the mask; nothing raises meanwhile.
 * - A transfer is idle, flying, ended, or the caller's.  libcurl queues none:
 *	 what there is no room for is refused, so that the time-out counts from
 *	 the dispatch.
 * - A POST is sent once.  libcurl would send it again by itself where a kept
 *	 connection broke before the answer: an attempt that nobody counted.
 * - Our copies of a request are wiped before they are freed (of the URL libcurl
 *	 has the only one), and "trouble" holds no path, query or header.
 * - Nothing is cleaned up when the process ends: that could wait for a resolver.
 */
#include "stripe_sync.h"

#include "lib/ilist.h"

#include <curl/curl.h>
#include <openssl/crypto.h>
#include <strings.h>
#include <sys/socket.h>

#include "http_parts.h"

typedef struct Transfer
{
	AnswerReader reader; /* first: who has the answer has its transfer */
	dlist_node node;
	CURL *easy;
	char *ca_file; /* that "easy" was made with */
	struct curl_slist *headers;
	int sendings;
	bool once;	/* a POST */
	bool plain; /* http, to loopback alone */
	char error[CURL_ERROR_SIZE];
} Transfer;

static CURLM *multi = NULL;
static CURLMcode multi_trouble = CURLM_OK;
static int64 timer_due = -1; /* microseconds; -1: libcurl waits for none */
static dlist_head idle = DLIST_STATIC_INIT(idle);
static dlist_head flying = DLIST_STATIC_INIT(flying);
static dlist_head ended = DLIST_STATIC_INIT(ended);
static int nstarted = 0; /* flying and ended */

/* What libcurl says, and whose words tell it: NULL is its own. */
static const struct
{
	CURLcode code;
	HttpFault fault;
	const char *words;
} faults[] = {
	{CURLE_OK, HTTP_DONE, ""},
	{CURLE_OPERATION_TIMEDOUT, HTTP_TIMEOUT, NULL},
	{CURLE_COULDNT_RESOLVE_HOST, HTTP_CONNECTION, NULL},
	{CURLE_COULDNT_CONNECT, HTTP_CONNECTION, NULL},
	{CURLE_SEND_ERROR, HTTP_CONNECTION, NULL},
	{CURLE_RECV_ERROR, HTTP_CONNECTION, NULL},
	{CURLE_ABORTED_BY_CALLBACK, HTTP_CONNECTION,
	 "the connection was closed before an answer came"},
	{CURLE_UNSUPPORTED_PROTOCOL, HTTP_CONNECTION, "the answer is not HTTP"},
	{CURLE_SSL_CONNECT_ERROR, HTTP_TLS, NULL},
	{CURLE_PEER_FAILED_VERIFICATION, HTTP_TLS, NULL},
	{CURLE_SSL_CACERT_BADFILE, HTTP_TLS, NULL},
};

/* The first setting that is refused stays in "code". */
#define SET(option, value)                                                     \
	do                                                                         \
	{                                                                          \
		if (code == CURLE_OK)                                                  \
			code = curl_easy_setopt(easy, option, value);                      \
	} while (0)

/* ---- what libcurl calls ---- */

static int
socket_changed(CURL *easy, curl_socket_t fd, int what, void *user, void *known)
{
	if (what == CURL_POLL_REMOVE)
		socket_forget(fd);
	else
	{
		if (known == NULL)
			curl_multi_assign(multi, fd, &multi);
		socket_watch(fd, what & CURL_POLL_IN, what & CURL_POLL_OUT,
					 known != NULL);
	}
	return 0;
}

/* libcurl must not be called from here. */
static int
timer_note(CURLM *of, long timeout_ms, void *user)
{
	timer_due = timeout_ms < 0 ? -1 : clock_us() + (int64) timeout_ms * 1000;
	return 0;
}

/* A name could lead anywhere: what goes in plain text stays in the machine. */
static curl_socket_t
socket_open(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
	Transfer *transfer = user;

	if (transfer->plain && !address_is_loopback(&address->addr))
	{
		answer_fail(&transfer->reader, HTTP_REFUSED,
					"plain http is for loopback alone");
		return CURL_SOCKET_BAD;
	}
	return socket_make(address->family, address->socktype, address->protocol);
}

#if LIBCURL_VERSION_NUM >= 0x075000
/* Called when a request is about to be sent. */
static int
sending_count(void *user, char *local, char *remote, int local_port,
			  int remote_port)
{
	Transfer *transfer = user;

	return transfer->once && transfer->sendings++ > 0 ? CURL_PREREQFUNC_ABORT
													  : CURL_PREREQFUNC_OK;
}
#endif

/* ---- a transfer ---- */

/* Settings that stay: whom to trust, where to go, how to behave. */
static CURLcode
easy_secure(CURL *easy, const char *ca_file)
{
	CURLcode code = CURLE_OK;

	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	if (ca_file[0] != '\0')
	{
		SET(CURLOPT_CAINFO, ca_file);
		SET(CURLOPT_CAPATH, NULL); /* the system's, which isn't meant now */
	}
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NOPROXY, "*");
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
#if LIBCURL_VERSION_NUM >= 0x075700
	SET(CURLOPT_CA_CACHE_TIMEOUT, 60L); /* a new file of that name counts */
	SET(CURLOPT_QUICK_EXIT, 1L);
#endif
	return code;
}

static CURLcode
easy_configure(CURL *easy, Transfer *transfer)
{
	CURLcode code = easy_secure(easy, transfer->ca_file);

	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_TCP_NODELAY, 1L);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_USERAGENT, "stripe_sync/" STRIPE_SYNC_VERSION);
	SET(CURLOPT_PRIVATE, transfer);
	SET(CURLOPT_ERRORBUFFER, transfer->error);
	SET(CURLOPT_WRITEFUNCTION, answer_take_body);
	SET(CURLOPT_WRITEDATA, transfer);
	SET(CURLOPT_HEADERFUNCTION, answer_take_header);
	SET(CURLOPT_HEADERDATA, transfer);
	SET(CURLOPT_OPENSOCKETFUNCTION, socket_open);
	SET(CURLOPT_OPENSOCKETDATA, transfer);
	SET(CURLOPT_CLOSESOCKETFUNCTION, socket_close);
#if LIBCURL_VERSION_NUM >= 0x075000
	SET(CURLOPT_PREREQFUNCTION, sending_count);
	SET(CURLOPT_PREREQDATA, transfer);
#endif
	return code;
}

/* Settings that a reload or the request may change. */
static CURLcode
easy_prepare(CURL *easy, const Transfer *transfer, const char *url)
{
	CURLcode code = CURLE_OK;

	SET(CURLOPT_URL, url);
#if LIBCURL_VERSION_NUM >= 0x075500
	SET(CURLOPT_PROTOCOLS_STR, transfer->plain ? "http" : "https");
#else
	SET(CURLOPT_PROTOCOLS,
		(long) (transfer->plain ? CURLPROTO_HTTP : CURLPROTO_HTTPS));
#endif
	SET(CURLOPT_TIMEOUT_MS, (long) guc_http_timeout);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) Max(guc_http_timeout / 2, 1));
	SET(CURLOPT_HTTPHEADER, transfer->headers);
	if (transfer->once)
	{
		SET(CURLOPT_POST, 1L);
		SET(CURLOPT_POSTFIELDS, transfer->reader.body);
		SET(CURLOPT_POSTFIELDSIZE_LARGE,
			(curl_off_t) transfer->reader.body_length);
	}
	else
		SET(CURLOPT_HTTPGET, 1L);
	return code;
}

static void
transfer_destroy(Transfer *transfer)
{
	curl_easy_cleanup(transfer->easy);
	free(transfer->ca_file);
	free(transfer);
}

/* Wiped of its request and its answer, to be used again. */
static void
transfer_retire(Transfer *transfer)
{
	for (struct curl_slist *line = transfer->headers; line != NULL;
		 line = line->next)
		OPENSSL_cleanse(line->data, strlen(line->data));
	curl_slist_free_all(transfer->headers);
	transfer->headers = NULL;
	answer_wipe(&transfer->reader);
	(void) curl_easy_setopt(transfer->easy, CURLOPT_URL, NULL);
	dlist_push_head(&idle, &transfer->node);
}

static Transfer *
transfer_create(void)
{
	Transfer *transfer = calloc(1, sizeof(Transfer));

	if (transfer == NULL)
		return NULL;
	transfer->ca_file = strdup(guc_ca_file);
	transfer->easy = curl_easy_init();
	if (transfer->ca_file == NULL || transfer->easy == NULL ||
		easy_configure(transfer->easy, transfer) != CURLE_OK)
	{
		transfer_destroy(transfer);
		return NULL;
	}
	return transfer;
}

/* An idle one, unless it was made for another ca_file. */
static Transfer *
transfer_find(void)
{
	while (!dlist_is_empty(&idle))
	{
		Transfer *transfer = dlist_container(Transfer, node,
											 dlist_pop_head_node(&idle));

		if (strcmp(transfer->ca_file, guc_ca_file) == 0)
			return transfer;
		transfer_destroy(transfer);
	}
	return transfer_create();
}

/* Copies of the request's parts; libcurl has its own of the URL alone. */
static bool
transfer_fill(Transfer *transfer, const HttpRequest *request)
{
	transfer->error[0] = '\0';
	transfer->sendings = 0;
	transfer->once = strcmp(request->method, "POST") == 0;
	transfer->plain = strncasecmp(request->url, "http:", 5) == 0;
	if (!answer_begin(&transfer->reader, request))
		return false;
	for (int i = -1; i < HTTP_MAX_HEADERS; i++)
	{
		/* first, that we wait for no "100 Continue" */
		const char *line = i < 0 ? "Expect:" : request->headers[i];
		struct curl_slist *lines;

		if (line == NULL)
			break;
		lines = curl_slist_append(transfer->headers, line);
		if (lines == NULL)
			return false;
		transfer->headers = lines;
	}
	return true;
}

/* With signals blocked: out of libcurl's hands, to be taken. */
static void
transfer_end(Transfer *transfer, HttpFault fault, const char *trouble)
{
	HttpAnswer *answer = &transfer->reader.answer;
	long status = 0;

	curl_multi_remove_handle(multi, transfer->easy);
	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	answer->status = (int) status;
	/* unless we ended it ourselves */
	if (answer->fault == HTTP_DONE || fault == HTTP_DONE)
		answer_fail(&transfer->reader, fault, trouble);
	answer->finished = GetCurrentTimestamp();
	dlist_delete(&transfer->node);
	dlist_push_tail(&ended, &transfer->node);
}

/*
 * libcurl's own words for what can't quote the request or the answer, which
 * may hold a secret; for the rest the general ones.
 */
static void
transfer_judge(Transfer *transfer, CURLcode code)
{
	const char *trouble = curl_easy_strerror(code);
	HttpFault fault = HTTP_CONNECTION;

	for (int i = 0; i < lengthof(faults); i++)
		if (faults[i].code == code)
		{
			fault = faults[i].fault;
			if (faults[i].words != NULL)
				trouble = faults[i].words;
			else if (transfer->error[0] != '\0')
				trouble = transfer->error;
		}
	transfer_end(transfer, fault, trouble);
}

/* ---- all transfers ---- */

static bool
multi_make(void)
{
	CURLM *made = curl_multi_init();

	if (made == NULL)
		return false;
	if (curl_multi_setopt(made, CURLMOPT_SOCKETFUNCTION, socket_changed) !=
			CURLM_OK ||
		curl_multi_setopt(made, CURLMOPT_TIMERFUNCTION, timer_note) != CURLM_OK)
	{
		curl_multi_cleanup(made);
		return false;
	}
	multi = made;
	multi_trouble = CURLM_OK;
	return true;
}

/* With signals blocked.  libcurl is spoilt: what was flying has failed. */
static void
multi_fail(void)
{
	while (!dlist_is_empty(&flying))
		transfer_end(dlist_head_element(Transfer, node, &flying),
					 HTTP_CONNECTION, curl_multi_strerror(multi_trouble));
	curl_multi_cleanup(multi);
	multi = NULL;
	timer_due = -1;
}

/* With signals blocked, as the next one. */
static void
multi_drive(curl_socket_t fd, int what)
{
	int running;
	CURLMcode code = curl_multi_socket_action(multi, fd, what, &running);

	if (code != CURLM_OK)
		multi_trouble = code;
}

static void
multi_collect(void)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		CURLcode code = message->data.result;
		char *owner = NULL;

		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &owner);
		transfer_judge((Transfer *) owner, code);
	}
	if (multi_trouble != CURLM_OK)
		multi_fail();
}

/* Whatever can be done now. */
static void
multi_turn(void)
{
	SocketReady ready[SOCKETS_AT_ONCE];
	sigset_t before;
	int n;

	if (multi == NULL)
		return;
	before = signals_block();
	n = sockets_ready(ready);
	for (int i = 0; i < n; i++)
		multi_drive(ready[i].fd, (ready[i].readable ? CURL_CSELECT_IN : 0) |
									 (ready[i].writable ? CURL_CSELECT_OUT : 0));
	if (timer_due >= 0 && timer_due <= clock_us())
	{
		timer_due = -1;
		multi_drive(CURL_SOCKET_TIMEOUT, 0);
	}
	multi_collect();
	signals_restore(before);
}

/* ---- what others call ---- */

void
http_setup(void)
{
	static bool ready = false;

	ready = ready || curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
	if (!ready || (multi == NULL && !multi_make()))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY),
						errmsg("could not start libcurl")));
	sockets_setup();
}

int
http_room(void)
{
	return Max(sockets_allowed() - nstarted, 0);
}

/* Newer versions would use one that was closed less than a second ago. */
static void
forget_dead_connections(void)
{
	if (!sockets_reap())
		return;
#ifdef CURLMNWC_CLEAR_CONNS
	(void) curl_multi_setopt(multi, CURLMOPT_NETWORK_CHANGED,
							 (long) CURLMNWC_CLEAR_CONNS);
#endif
}

/* With signals blocked; the first bytes leave before the caller goes on. */
static bool
transfer_launch(Transfer *transfer, const HttpRequest *request)
{
	forget_dead_connections();
	if (!transfer_fill(transfer, request) ||
		easy_prepare(transfer->easy, transfer, request->url) != CURLE_OK ||
		curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS,
						  (long) guc_max_connections) != CURLM_OK ||
		curl_multi_add_handle(multi, transfer->easy) != CURLM_OK)
	{
		transfer_retire(transfer);
		return false;
	}
	transfer->reader.answer.started = GetCurrentTimestamp();
	dlist_push_tail(&flying, &transfer->node);
	nstarted++;
	multi_drive(CURL_SOCKET_TIMEOUT, 0);
	multi_collect(); /* it may have ended, and nothing else would wake us */
	return true;
}

bool
http_start(const HttpRequest *request, char **trouble)
{
	const char *refusal = request_refusal(request);

	if (http_room() == 0)
		refusal = "as many requests as may be are in flight";
	if (refusal == NULL)
	{
		sigset_t before = signals_block();
		bool ready = multi != NULL || multi_make();
		Transfer *transfer = ready ? transfer_find() : NULL;
		bool started = transfer != NULL && transfer_launch(transfer, request);

		signals_restore(before);
		if (started)
			return true;
		refusal = "out of memory";
	}
	*trouble = pstrdup(refusal);
	return false;
}

static HttpAnswer *
take(void)
{
	if (dlist_is_empty(&ended))
		return NULL;
	nstarted--;
	return &dlist_container(Transfer, node, dlist_pop_head_node(&ended))
				->reader.answer;
}

void
http_deliver(void)
{
	HttpAnswer *answer;

	multi_turn();
	while ((answer = take()) != NULL)
		answer->landed(answer);
}

void
http_free(HttpAnswer *answer)
{
	transfer_retire((Transfer *) answer);
}

/* Take those of one asker's out of a list, unanswered. */
static void
abandon(dlist_head *head, HttpLanded landed)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, head)
	{
		Transfer *transfer = dlist_container(Transfer, node, iter.cur);

		if (transfer->reader.answer.landed != landed)
			continue;
		if (head == &flying)
			transfer_end(transfer, HTTP_CONNECTION, "abandoned");
		else
		{
			dlist_delete(&transfer->node);
			nstarted--;
			transfer_retire(transfer);
		}
	}
}

/* A connection whose answer is outstanding is closed with its transfer. */
void
http_abandon(HttpLanded landed)
{
	sigset_t before = signals_block();

	abandon(&flying, landed);
	signals_restore(before);
	abandon(&ended, landed);
}

/* Milliseconds until the caller's time or libcurl's is over; -1: neither. */
static long
nap(int64 until)
{
	int64 left;

	if (!dlist_is_empty(&ended))
		return 0;
	if (timer_due >= 0 && (until < 0 || timer_due < until))
		until = timer_due;
	if (until < 0)
		return -1;
	left = (until - clock_us() + 999) / 1000;
	return left <= 0 ? 0 : (long) Min(left, INT_MAX);
}

bool
http_wait(long timeout_ms, uint32 wait_event)
{
	int64 until = timeout_ms < 0 ? -1 : clock_us() + (int64) timeout_ms * 1000;

	for (;;)
	{
		bool latched = sockets_wait(nap(until), wait_event);

		multi_turn();
		if (!dlist_is_empty(&ended))
			return true;
		if (latched || (until >= 0 && clock_us() >= until))
			return false;
	}
}

/* ---- a URL, as libcurl reads it ---- */

/* Every part may hold what was meant to be secret. */
void
url_free(UrlParts *parts)
{
	for (int i = 0; i < NURLPARTS; i++)
	{
		if (parts->part[i] != NULL)
			OPENSSL_cleanse(parts->part[i], strlen(parts->part[i]));
		curl_free(parts->part[i]);
	}
}

/* Read by libcurl, as it will be when it is called. */
bool
url_read(const char *url, UrlParts *parts)
{
	static const CURLUPart names[] = {
		[URL_SCHEME] = CURLUPART_SCHEME,	[URL_HOST] = CURLUPART_HOST,
		[URL_PORT] = CURLUPART_PORT,		[URL_PATH] = CURLUPART_PATH,
		[URL_USER] = CURLUPART_USER,		[URL_PASSWORD] = CURLUPART_PASSWORD,
		[URL_FRAGMENT] = CURLUPART_FRAGMENT};
	CURLU *handle = curl_url();
	bool readable = handle != NULL &&
					curl_url_set(handle, CURLUPART_URL, url, 0) == CURLUE_OK;

	memset(parts, 0, sizeof(*parts));
	for (int i = 0; readable && i < NURLPARTS; i++)
		if (curl_url_get(handle, names[i], &parts->part[i],
						 CURLU_DEFAULT_PORT) != CURLUE_OK)
		{
			parts->part[i] = NULL;
			readable = i > URL_PATH; /* the others needn't be there */
		}
	curl_url_cleanup(handle);
	return readable;
}
