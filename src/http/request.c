/*
 * request.c
 *		One request: the options of its libcurl handle, and the outcome.
 *
 * A transfer and its handle are reused until stripe_sync.ca_file changes, so that
 * connections are kept.  No error is raised here.  Signals are blocked when a
 * transfer is set up (http.c).
 */
#include "postgres.h"

#include <openssl/crypto.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/base.h"
#include "http/http.h"
#include "http/request.h"
#include "http/internal.h"

static dlist_head idle = DLIST_STATIC_INIT(idle);

/* Outcomes by libcurl's code, with the message; NULL: libcurl's own message */
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
	 "the connection was closed before a response arrived"},
	{CURLE_UNSUPPORTED_PROTOCOL, HTTP_CONNECTION, "the response is not HTTP"},
	{CURLE_SSL_CONNECT_ERROR, HTTP_TLS, NULL},
	{CURLE_PEER_FAILED_VERIFICATION, HTTP_TLS, NULL},
	{CURLE_SSL_CACERT_BADFILE, HTTP_TLS, NULL},
};

/* "code" keeps the error of the first option that fails. */
#define SET(option, value)                                                     \
	do                                                                         \
	{                                                                          \
		if (code == CURLE_OK)                                                  \
			code = curl_easy_setopt(easy, option, value);                      \
	} while (0)

/* ---- what libcurl calls ---- */

/* Any name may resolve to any address, so plain http is checked by address here. */
static curl_socket_t
socket_open(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
	Transfer *transfer = user;

	if (transfer->plain && !address_is_loopback(&address->addr))
	{
		answer_fail(&transfer->reader, HTTP_REFUSED,
					"plain http is allowed only to loopback addresses");
		return CURL_SOCKET_BAD;
	}
	return socket_make(address->family, address->socktype, address->protocol);
}

#if LIBCURL_VERSION_NUM >= 0x075000
/* Called before a request is sent: a POST must not be sent a second time. */
static int
sending_count(void *user, char *local, char *remote, int local_port,
			  int remote_port)
{
	Transfer *transfer = user;

	return transfer->once && transfer->sendings++ > 0 ? CURL_PREREQFUNC_ABORT
													  : CURL_PREREQFUNC_OK;
}
#endif

/* ---- options ---- */

/* TLS 1.2 or later with verification; no redirects, no proxy, no .netrc. */
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
		SET(CURLOPT_CAPATH, NULL); /* don't use the system's as well */
	}
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NOPROXY, "*");
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
#if LIBCURL_VERSION_NUM >= 0x075700
	SET(CURLOPT_CA_CACHE_TIMEOUT, 60L); /* seconds: the file may be replaced */
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

/* Options that depend on the request, or on settings that a reload changes */
static CURLcode
easy_prepare(CURL *easy, const Transfer *transfer, const HttpRequest *request)
{
	int timeout = request->timeout > 0 ? request->timeout : guc_http_timeout;
	CURLcode code = CURLE_OK;

	SET(CURLOPT_URL, request->url);
#if LIBCURL_VERSION_NUM >= 0x075500
	SET(CURLOPT_PROTOCOLS_STR, transfer->plain ? "http" : "https");
#else
	SET(CURLOPT_PROTOCOLS,
		(long) (transfer->plain ? CURLPROTO_HTTP : CURLPROTO_HTTPS));
#endif
	SET(CURLOPT_TIMEOUT_MS, (long) timeout);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) Max(timeout / 2, 1));
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

/* Wipe the request and the response, and keep the transfer for reuse. */
void
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

/* An idle transfer that was made for the current ca_file, or a new one */
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

/* Copy the request.  libcurl copies only the URL itself. */
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
		/* without "Expect:", libcurl may wait for "100 Continue" */
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

/* Returns NULL if out of memory, or if libcurl lacks an option. */
Transfer *
transfer_begin(const HttpRequest *request)
{
	Transfer *transfer = transfer_find();

	if (transfer == NULL)
		return NULL;
	if (transfer_fill(transfer, request) &&
		easy_prepare(transfer->easy, transfer, request) == CURLE_OK)
		return transfer;
	transfer_retire(transfer);
	return NULL;
}

/* ---- outcome ---- */

/*
 * libcurl's detailed message is used only for the codes in "faults", for which it
 * doesn't quote the request or the response, which may contain a secret.
 */
HttpFault
transfer_fault(const Transfer *transfer, CURLcode code, const char **trouble)
{
	*trouble = curl_easy_strerror(code);
	for (int i = 0; i < lengthof(faults); i++)
	{
		if (faults[i].code != code)
			continue;
		if (faults[i].words != NULL)
			*trouble = faults[i].words;
		else if (transfer->error[0] != '\0')
			*trouble = transfer->error;
		return faults[i].fault;
	}
	return HTTP_CONNECTION;
}
