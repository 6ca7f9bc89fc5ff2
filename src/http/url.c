/*
 * url.c
 *		Which URLs and requests are allowed.
 *
 * A URL is parsed by libcurl (http.c), so that the parts checked here are those
 * that it will use.  No message quotes the URL: its path may be a secret, or a
 * secret may have been given in its place.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <strings.h>

#include "base/base.h"
#include "http/http.h"
#include "http/internal.h"

#define MAX_URL 2000

/* A line break in a header would begin another header. */
static bool
is_printable(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char) *text < ' ' || *text == 0x7f)
			return false;
	return true;
}

static bool
host_is_loopback(const char *host)
{
	struct in_addr address;

	if (inet_pton(AF_INET, host, &address) == 1)
		return ntohl(address.s_addr) >> 24 == IN_LOOPBACKNET;
	return strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0;
}

static bool
ends_with(const char *host, const char *end)
{
	size_t length = strlen(host);

	return length >= strlen(end) &&
		   strcasecmp(host + length - strlen(end), end) == 0;
}

static bool
v4_is_private(const char *host)
{
	struct in_addr address;
	uint32 bits;

	if (inet_pton(AF_INET, host, &address) != 1)
		return false;
	bits = ntohl(address.s_addr);
	return bits >> 24 == 10 || bits >> 24 == 0 || bits >> 20 == 0xac1 ||
		   bits >> 16 == 0xc0a8 || bits >> 16 == 0xa9fe;
}

/* Can only this machine or this network reach the host? */
static bool
host_is_local(const char *host)
{
	return host_is_loopback(host) || v4_is_private(host) ||
		   ends_with(host, ".localhost") || ends_with(host, ".local") ||
		   strncasecmp(host, "[fc", 3) == 0 ||
		   strncasecmp(host, "[fd", 3) == 0 ||
		   strncasecmp(host, "[fe8", 4) == 0 ||
		   (host[0] != '[' && strchr(host, '.') == NULL);
}

bool
address_is_loopback(const struct sockaddr *address)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *) address;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *) address;

	if (address->sa_family == AF_INET)
		return ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	return address->sa_family == AF_INET6 &&
		   IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

/* Does an entry, "host" or "host:port" with optional blanks, match the URL? */
static bool
host_fits(const char *entry, size_t length, const UrlParts *parts)
{
	size_t host_length = strlen(parts->part[URL_HOST]);

	while (length > 0 && isspace((unsigned char) *entry))
		entry++, length--;
	while (length > 0 && isspace((unsigned char) entry[length - 1]))
		length--;
	if (length < host_length ||
		strncasecmp(entry, parts->part[URL_HOST], host_length) != 0)
		return false;
	entry += host_length;
	length -= host_length;
	if (length == 0)
		return strcmp(parts->part[URL_PORT], "443") == 0;
	return *entry == ':' && length - 1 == strlen(parts->part[URL_PORT]) &&
		   memcmp(entry + 1, parts->part[URL_PORT], length - 1) == 0;
}

static bool
host_is_listed(const char *list, const UrlParts *parts)
{
	while (list != NULL)
	{
		const char *comma = strchr(list, ',');

		if (host_fits(list, comma == NULL ? strlen(list) : comma - list, parts))
			return true;
		list = comma == NULL ? NULL : comma + 1;
	}
	return false;
}

static bool
is_below(const char *base, const UrlParts *parts)
{
	UrlParts of;
	bool below = base != NULL && url_read(base, &of);

	if (below)
	{
		size_t length = strlen(of.part[URL_PATH]);

		while (length > 0 && of.part[URL_PATH][length - 1] == '/')
			length--;
		below = strcmp(of.part[URL_SCHEME], parts->part[URL_SCHEME]) == 0 &&
				strcasecmp(of.part[URL_HOST], parts->part[URL_HOST]) == 0 &&
				strcmp(of.part[URL_PORT], parts->part[URL_PORT]) == 0 &&
				strncmp(of.part[URL_PATH], parts->part[URL_PATH], length) == 0 &&
				(parts->part[URL_PATH][length] == '/' ||
				 parts->part[URL_PATH][length] == '\0');
	}
	if (base != NULL)
		url_free(&of);
	return below;
}

static const char *
audience_refusal(const UrlParts *parts, HttpAudience audience)
{
	switch (audience)
	{
		case HTTP_SLACK_WEBHOOK:
			if (!host_is_listed(guc_slack_hosts, parts))
				return "Its host is not one of stripe_sync.slack_hosts.";
			break;
		case HTTP_SLACK_API:
			if (!is_below(guc_slack_api_base, parts))
				return "It is not below stripe_sync.slack_api_base.";
			break;
		case HTTP_STRIPE_API:
			if (!is_below(guc_stripe_api_base, parts))
				return "It is not below stripe_sync.stripe_api_base.";
			break;
		case HTTP_FROM_OUTSIDE:
			if (host_is_local(parts->part[URL_HOST]))
				return "Stripe cannot reach this host. For development, run stripe listen --forward-to with this URL, and call add_endpoint() with the secret that it prints.";
			break;
	}
	return NULL;
}

static const char *
parts_refusal(const UrlParts *parts, HttpAudience audience)
{
	if (strcmp(parts->part[URL_SCHEME], "https") != 0)
	{
		if (strcmp(parts->part[URL_SCHEME], "http") != 0 ||
			!guc_allow_plain_http)
			return "It does not begin with https://.";
		if (!host_is_loopback(parts->part[URL_HOST]))
			return "Plain http is allowed only to loopback addresses.";
	}
	if (parts->part[URL_USER] != NULL || parts->part[URL_PASSWORD] != NULL)
		return "It contains a user name or a password.";
	if (parts->part[URL_FRAGMENT] != NULL)
		return "It has a fragment (#...).";
	return audience_refusal(parts, audience);
}

char *
http_refusal(const char *url, HttpAudience audience)
{
	UrlParts parts;
	const char *refusal;

	if (strlen(url) > MAX_URL)
		return psprintf("It is longer than %d bytes.", MAX_URL);
	if (!is_printable(url) || strchr(url, ' ') != NULL)
		return pstrdup("It contains spaces or control characters.");
	refusal = url_read(url, &parts) ? parts_refusal(&parts, audience)
									: "It is not a URL.";
	url_free(&parts);
	return refusal == NULL ? NULL : pstrdup(refusal);
}

/* Why http_start() refuses a request, NULL: it doesn't. */
const char *
request_refusal(const HttpRequest *request)
{
	if (strncasecmp(request->url, "https://", 8) != 0 &&
		(!guc_allow_plain_http || strncasecmp(request->url, "http://", 7) != 0))
		return "only https URLs are allowed";
	if (strcmp(request->method, "POST") != 0 &&
		strcmp(request->method, "GET") != 0)
		return "only POST and GET are supported";
	for (int i = 0; i < HTTP_MAX_HEADERS && request->headers[i] != NULL; i++)
		if (!is_printable(request->headers[i]))
			return "a header contains control characters";
	return NULL;
}
