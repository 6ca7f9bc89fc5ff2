/*
 * http.c
 *		HTTP requests by libcurl's multi interface, many at a time, beside the
 *		latch.
 *
 * libcurl reports the sockets to be watched (socket_changed) and when it must be
 * called next (timer_changed).  sockets.c waits for both and for the latch.
 * request.c sets up a request, response.c reads its response, and url.c
 * decides which URLs may be requested.
 *
 * Invariants:
 *
 * - Functions that libcurl calls neither palloc nor raise errors.  Signals are
 *	 blocked while its multi interface is called, because the threads that
 *	 resolve names inherit the mask; no error is raised meanwhile.
 * - A transfer is idle, in progress, ended, or the caller's.  None is queued in
 *	 libcurl: http_start() fails if there is no room, so that the time-out begins
 *	 when the request is sent.
 * - A POST is sent once.  libcurl would repeat it if a kept connection is closed
 *	 before the response, and that attempt would not be counted.
 * - Copies of a request are wiped before they are freed (the only copy of the
 *	 URL is libcurl's), and "trouble" contains no path, query or header.
 * - Nothing is cleaned up when the process ends, because that could wait for a
 *	 name to be resolved.
 */
#include "postgres.h"

#include <limits.h>

#include <openssl/crypto.h>

#include "base/base.h"
#include "http/http.h"
#include "http/request.h"
#include "http/internal.h"

static CURLM *multi = NULL;
static CURLMcode multi_trouble = CURLM_OK;
static int64 timer_due = -1; /* microseconds; -1: libcurl waits for none */
static dlist_head in_progress = DLIST_STATIC_INIT(in_progress);
static dlist_head ended = DLIST_STATIC_INIT(ended);
static int nstarted = 0; /* in progress and ended */

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

/* A callback; must not call libcurl. */
static int
timer_changed(CURLM *of, long timeout_ms, void *user)
{
	timer_due = timeout_ms < 0 ? -1 : clock_us() + (int64) timeout_ms * 1000;
	return 0;
}

/* ---- all transfers ---- */

/* Remove a transfer from libcurl; http_deliver() reports it.  Signals are blocked. */
static void
end_transfer(Transfer *transfer, HttpFault fault, const char *trouble)
{
	HttpAnswer *answer = &transfer->reader.answer;
	long status = 0;

	curl_multi_remove_handle(multi, transfer->easy);
	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	answer->status = (int) status;
	/* a callback may have noted the reason already */
	if (answer->fault == HTTP_DONE || fault == HTTP_DONE)
		answer_fail(&transfer->reader, fault, trouble);
	answer->finished = GetCurrentTimestamp();
	dlist_delete(&transfer->node);
	dlist_push_tail(&ended, &transfer->node);
}

static bool
multi_make(void)
{
	CURLM *made = curl_multi_init();

	if (made == NULL)
		return false;
	if (curl_multi_setopt(made, CURLMOPT_SOCKETFUNCTION, socket_changed) !=
			CURLM_OK ||
		curl_multi_setopt(made, CURLMOPT_TIMERFUNCTION, timer_changed) !=
			CURLM_OK)
	{
		curl_multi_cleanup(made);
		return false;
	}
	multi = made;
	multi_trouble = CURLM_OK;
	return true;
}

/*
 * After an error of the multi interface: all requests in progress have failed.
 * Signals are blocked.
 */
static void
multi_fail(void)
{
	while (!dlist_is_empty(&in_progress))
		end_transfer(dlist_head_element(Transfer, node, &in_progress),
					 HTTP_CONNECTION, curl_multi_strerror(multi_trouble));
	curl_multi_cleanup(multi);
	multi = NULL;
	timer_due = -1;
}

/* Signals are blocked here and in multi_collect(). */
static void
multi_action(curl_socket_t fd, int what)
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
		const char *trouble;
		HttpFault fault;
		char *owner = NULL;

		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &owner);
		fault = transfer_fault((Transfer *) owner, message->data.result,
							   &trouble);
		end_transfer((Transfer *) owner, fault, trouble);
	}
	if (multi_trouble != CURLM_OK)
		multi_fail();
}

/* Process sockets that are ready, and the timer, without waiting. */
static void
multi_process(void)
{
	SocketReady ready[SOCKETS_AT_ONCE];
	sigset_t before;
	int n;

	if (multi == NULL)
		return;
	before = signals_block();
	n = sockets_ready(ready);
	for (int i = 0; i < n; i++)
		multi_action(ready[i].fd,
					 (ready[i].readable ? CURL_CSELECT_IN : 0) |
						 (ready[i].writable ? CURL_CSELECT_OUT : 0));
	if (timer_due >= 0 && timer_due <= clock_us())
	{
		timer_due = -1;
		multi_action(CURL_SOCKET_TIMEOUT, 0);
	}
	multi_collect();
	signals_restore(before);
}

/* ---- public ---- */

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

int
http_room_to_spare(void)
{
	return sockets_allowed() > 1 ? Max(http_room() - 1, 0) : http_room();
}

/* libcurl 8 would use a connection that the peer closed within the last second. */
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

/* Start connecting or sending.  Signals are blocked. */
static bool
start_transfer(const HttpRequest *request)
{
	Transfer *transfer;

	if (multi == NULL && !multi_make())
		return false;
	forget_dead_connections();
	transfer = transfer_begin(request);
	if (transfer == NULL)
		return false;
	if (curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS,
						  (long) guc_max_connections) != CURLM_OK ||
		curl_multi_add_handle(multi, transfer->easy) != CURLM_OK)
	{
		transfer_retire(transfer);
		return false;
	}
	transfer->reader.answer.started = GetCurrentTimestamp();
	dlist_push_tail(&in_progress, &transfer->node);
	nstarted++;
	multi_action(CURL_SOCKET_TIMEOUT, 0);
	multi_collect(); /* it may have ended, which no socket would report */
	return true;
}

bool
http_start(const HttpRequest *request, char **trouble)
{
	const char *refusal = request_refusal(request);

	if (http_room() == 0)
		refusal = "the maximum number of requests is in progress";
	if (refusal == NULL)
	{
		sigset_t before = signals_block();
		bool started = start_transfer(request);

		signals_restore(before);
		if (started)
			return true;
		refusal = "out of memory";
	}
	*trouble = pstrdup(refusal);
	return false;
}

static HttpAnswer *
take_ended(void)
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

	multi_process();
	while ((answer = take_ended()) != NULL)
		answer->completed(answer);
}

void
http_free(HttpAnswer *answer)
{
	transfer_retire((Transfer *) answer);
}

/* Drop the transfers of one caller from a list, without calling it. */
static void
abandon_in(dlist_head *head, HttpCompleted completed)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, head)
	{
		Transfer *transfer = dlist_container(Transfer, node, iter.cur);

		if (transfer->reader.answer.completed != completed)
			continue;
		if (head == &in_progress)
			end_transfer(transfer, HTTP_CONNECTION, "abandoned");
		else
		{
			dlist_delete(&transfer->node);
			nstarted--;
			transfer_retire(transfer);
		}
	}
}

/* Connections of requests in progress are closed. */
void
http_abandon(HttpCompleted completed)
{
	sigset_t before = signals_block();

	abandon_in(&in_progress, completed);
	signals_restore(before);
	abandon_in(&ended, completed);
}

/* Milliseconds until the caller's or libcurl's time is reached; -1: neither. */
static long
wait_timeout(int64 until)
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
		bool latched = sockets_wait(wait_timeout(until), wait_event);

		multi_process();
		if (!dlist_is_empty(&ended))
			return true;
		if (latched || (until >= 0 && clock_us() >= until))
			return false;
	}
}

/* ---- a URL, as libcurl reads it ---- */

/* Wipe and free the parts: each may contain a secret. */
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

/* Parse a URL by libcurl, as it will parse it for a request.  False: invalid. */
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
			readable = i > URL_PATH; /* the others are optional */
		}
	curl_url_cleanup(handle);
	return readable;
}
