-- Messages as they are posted: blocks, fallback text, and Slack's sizes.
\set tables '{coupon}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
CREATE FUNCTION t.blocks(blocks jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT stripe_sync.preview_message('fallback', blocks) -> 'blocks' $$;
CREATE FUNCTION t.section(txt text) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_array(jsonb_build_object('type', 'section', 'text', jsonb_build_object('type', 'mrkdwn', 'text', txt))) $$;
CREATE FUNCTION t.cut(txt text) RETURNS text LANGUAGE sql AS $$ SELECT t.blocks(t.section(txt)) #>> '{0,text,text}' $$;
CREATE FUNCTION t.many(n int, txt text) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_agg(t.section(txt) -> 0) FROM generate_series(1, n) $$;

-- a plain message, and alerts of each severity
SELECT jsonb_pretty(stripe_sync.preview_message('Hello *you*'));
SELECT jsonb_pretty(stripe_sync.preview_message('{{name}} owes {{amount | money}}', severity => 'critical',
	event => '{"id":"evt_1","type":"x","data":{"object":{"id":"in_1","name":"<!channel> & <https://x|y>","amount":500,"currency":"jpy"}}}'));
SELECT s, m #>> '{blocks,0,text,text}' AS section, m ->> 'text' AS text FROM unnest(ARRAY['info', 'warning', 'critical', NULL]) s, stripe_sync.preview_message('it broke', severity => s) m;
SELECT t.raises($$ SELECT stripe_sync.preview_message('x', severity => 'panic') $$);

-- the fallback has no markup of links, and is never empty
SELECT stripe_sync.preview_message(x) ->> 'text' FROM unnest(ARRAY['<https://a.example/?b=1&amp;c|the &lt;label&gt;> or <https://a.example>', 'at <!date^0^{date}|1970-01-01>!', '<!here> <@U1> <#C1|general> <mailto:a@b.c|a@b.c>', 'a < b > c <', '<>', '<|>', '', E' \n', NULL]) x;
SELECT stripe_sync.preview_message(x) #>> '{blocks,0,text,text}' FROM unnest(ARRAY['', E' \n', NULL]) x;
SELECT stripe_sync.preview_message('', b) ->> 'text' FROM unnest(ARRAY['[]', '[{"type":"divider"}]', '[{"type":"divider"},{"type":"header","text":{"type":"plain_text","text":"Head"}}]', '[{"type":"context","elements":[{"type":"image","alt_text":"a"},{"type":"mrkdwn","text":"<https://x|In> context"}]}]']::jsonb[]) b;

-- 50 KB are cut, not refused: 3,000 characters in a section, 4,000 in the fallback
SELECT length(m ->> 'text'), length(m #>> '{blocks,0,text,text}'), right(m ->> 'text', 2) AS end FROM stripe_sync.preview_message(repeat('abcde', 10240), severity => 'critical') m;
SELECT length(m ->> 'text'), length(m #>> '{blocks,0,text,text}'), octet_length(m #>> '{blocks,0,text,text}') FROM stripe_sync.preview_message(repeat('😀', 12800)) m;
SELECT length(t.cut(repeat('ü', 3000))) AS fits, length(t.cut(repeat('ü', 3001))) AS cut, right(t.cut(repeat('ü', 3001)), 2), octet_length(t.cut(repeat('ü', 3001)));
-- never inside an entity, a link or a mention
SELECT p, length(c), right(c, 12) FROM unnest(ARRAY[2990, 2994, 2995, 2996, 2998, 2999, 3000]) p, t.cut(repeat('x', p) || '&amp;&lt; and more') c;
SELECT p, length(c), right(c, 12) FROM unnest(ARRAY[2980, 2990, 2998, 2999, 3000]) p, t.cut(repeat('x', p) || '<https://a.b|c> and more') c;
SELECT p, length(c), right(c, 12) FROM unnest(ARRAY[2994, 2999]) p, t.cut(repeat('x', p) || '< no link, & no entity') c;
SELECT t.cut('<https://' || repeat('x', 4000) || '>');
SELECT right(t.cut(repeat('x', 2998) || '👩‍🚀 and more'), 3);

-- each part of a block has its size
SELECT jsonb_agg(length(x) ORDER BY n) FROM t.blocks(jsonb_build_array(
	jsonb_build_object('type', 'header', 'block_id', repeat('b', 300), 'text', jsonb_build_object('type', 'plain_text', 'text', repeat('h', 200))),
	jsonb_build_object('type', 'actions', 'elements', jsonb_build_array(jsonb_build_object('type', 'button', 'action_id', repeat('a', 300), 'value', repeat('v', 2100), 'text', jsonb_build_object('type', 'plain_text', 'text', repeat('t', 80))))),
	jsonb_build_object('type', 'image', 'image_url', 'https://x', 'alt_text', repeat('i', 2100)),
	jsonb_build_object('type', 'context', 'elements', jsonb_build_array(jsonb_build_object('type', 'mrkdwn', 'text', repeat('c', 2100)))),
	jsonb_build_object('type', 'section', 'fields', jsonb_build_array(jsonb_build_object('type', 'mrkdwn', 'text', repeat('f', 2100)))))) b,
	LATERAL (VALUES (1, b #>> '{0,block_id}'), (2, b #>> '{0,text,text}'), (3, b #>> '{1,elements,0,action_id}'), (4, b #>> '{1,elements,0,value}'), (5, b #>> '{1,elements,0,text,text}'),
		(6, b #>> '{2,alt_text}'), (7, b #>> '{3,elements,0,text}'), (8, b #>> '{4,fields,0,text}')) v (n, x);
SELECT jsonb_array_length(b #> '{0,fields}') AS fields, jsonb_array_length(b #> '{1,elements}') AS context, jsonb_array_length(b #> '{2,elements}') AS actions FROM t.blocks((
	SELECT jsonb_build_array(jsonb_build_object('type', 'section', 'fields', jsonb_agg(t)), jsonb_build_object('type', 'context', 'elements', jsonb_agg(t)), jsonb_build_object('type', 'actions', 'elements', jsonb_agg('{"type":"button"}'::jsonb)))
	  FROM (SELECT jsonb_build_object('type', 'mrkdwn', 'text', g) t FROM generate_series(1, 30) g) s)) b;
-- half an address would lead elsewhere
SELECT t.blocks(jsonb_build_array(jsonb_build_object('type', 'actions', 'elements', jsonb_build_array(jsonb_build_object('type', 'button', 'url', 'https://x/' || repeat('u', 3000))))));
-- and an image is nothing without one: it goes as a whole, and what holds nothing else
CREATE FUNCTION t.pictured(url text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_array('{"type":"divider"}'::jsonb, jsonb_build_object('type', 'image', 'alt_text', 'a', 'image_url', url),
		jsonb_build_object('type', 'section', 'text', '{"type":"mrkdwn","text":"s"}'::jsonb, 'accessory', jsonb_build_object('type', 'image', 'alt_text', 'b', 'image_url', url)),
		jsonb_build_object('type', 'context', 'elements', jsonb_build_array(jsonb_build_object('type', 'image', 'alt_text', 'c', 'image_url', url), '{"type":"mrkdwn","text":"c"}'::jsonb)),
		jsonb_build_object('type', 'context', 'elements', jsonb_build_array(jsonb_build_object('type', 'image', 'alt_text', 'd', 'image_url', url))),
		jsonb_build_object('type', 'rich_text', 'elements', jsonb_build_array(jsonb_build_object('type', 'rich_text_section', 'elements', jsonb_build_array('{"type":"text","text":"t"}'::jsonb, jsonb_build_object('type', 'link', 'url', url))))),
		jsonb_build_object('type', 'video', 'alt_text', 'v', 'title', '{"type":"plain_text","text":"v"}'::jsonb, 'video_url', 'https://x', 'thumbnail_url', url))
$$;
SELECT t.blocks(t.pictured('https://x/u')) = t.pictured('https://x/u') AS whole, jsonb_array_length(t.blocks(jsonb_build_array(t.pictured('https://x/' || repeat('u', 2990)) -> 1))) AS longest;
SELECT b FROM jsonb_array_elements(t.blocks(t.pictured(''))) b;
SELECT t.blocks(t.pictured('https://x/' || repeat('u', 2991))) = t.blocks(t.pictured(' ')) AS too_long_is_as_none;
SELECT stripe_sync.preview_message('the text', jsonb_build_array(t.pictured('') -> 1, t.pictured('') -> 4)) -> 'blocks' AS "nothing but images";
SELECT t.blocks('[{"type":"image","alt_text":"a","slack_file":{"id":"F1"}},{"type":"context","elements":[]}]');
SELECT t.blocks('[{"type":"section","text":{"type":"mrkdwn","text":" "}},{"type":"header","text":{"type":"plain_text","text":""}}]');
-- what has no size is left alone
SELECT t.blocks('[{"type":"rich_text","elements":[{"type":"rich_text_section","elements":[{"type":"text","text":"a","style":{"bold":true}},[1,null,true,{"x":[]}]]}]},{"type":"made_up","n":1.5}]');

-- 50 blocks, and 13,200 characters in all; what is left out is counted
SELECT n, jsonb_array_length(b), b #>> '{-1,elements,0,text}' AS note FROM unnest(ARRAY[0, 1, 49, 50, 51, 52, 500]) n, t.blocks(COALESCE(t.many(n, 'x'), '[]')) b;
SELECT n, length(x.txt), jsonb_array_length(b), (SELECT sum(length(e #>> '{text,text}')) FROM jsonb_array_elements(b) e) AS chars, length(b::text) <= 13300 AS fits, right(b #>> '{-2,text,text}', 1) AS cut, b #>> '{-1,elements,0,text}' AS note
  FROM (VALUES (4, repeat('x', 3000)), (5, repeat('x', 3000)), (10, repeat('😀', 3000)), (10, repeat(E'\n"', 1500)), (50, repeat('&amp;', 200)), (13, repeat('x', 1000))) x (n, txt), t.blocks(t.many(n, x.txt)) b;
SELECT bool_and(e.txt !~ '&(?!amp;)') AS whole_entities FROM jsonb_array_elements(t.blocks(t.many(50, repeat('&amp;', 500)))) b, LATERAL (SELECT b #>> '{text,text}') e (txt);

-- no blocks at all
SELECT split_part(t.raises_all($$ SELECT t.blocks('{}') $$), E'\nCONTEXT', 1) AS raises;
SELECT x, split_part(t.raises_all(format('SELECT t.blocks(%L)', x)), E'\nHINT', 1) AS raises FROM unnest(ARRAY['{}', '"x"', '1', 'null', '[1]', '[[]]', '[{}]', '[{"type":1}]', '[{"type":""}]', '[{"type":"divider"},"x"]', '{"type":"section"}']) x;
SELECT t.sqlstate($$ SELECT t.blocks(t.many(100, 'x') || '[1]') $$) AS beyond_the_fiftieth;

-- templates in blocks: every string, the structure stays
SELECT jsonb_pretty(stripe_sync.preview_message('x', '[{"type":"header","text":{"type":"plain_text","text":"{{name}} {{created | date}} {{id | link}}"}},
	{"type":"section","text":{"type":"mrkdwn","text":"{{name}} {{created | day}} {{id | link:name}}"},"fields":[{"type":"mrkdwn","text":"{{nothing}}"},{"type":"mrkdwn","text":"{{nothing | default:}}"}]},
	{"type":"actions","elements":[{"type":"button","text":{"type":"plain_text","text":"Open"},"url":"{{id | link}}","value":"{{id}}"},{"type":"button","text":{"type":"plain_text","text":"Pay"},"url":"{{pay}}"},{"type":"button","url":"https://x/?q={{name}}"},{"type":"button","url":"{{nothing}}"}]},
	{"type":"{{name}}","{{id}}":[true,null,1,"{{id}}"]}]',
	'{"id":"evt_1","type":"x","livemode":true,"data":{"object":{"id":"cus_1","name":"A <b> & \"c\"\nd","created":0,"pay":"https://x/?a=1&b=<2>"}}}') -> 'blocks');
-- other people's text is verbatim, unless the author has said
SELECT b FROM jsonb_array_elements(stripe_sync.preview_message('x', '[{"type":"context","elements":[{"type":"mrkdwn","text":"{{a}}"},{"type":"mrkdwn","text":"{{a}}","verbatim":false},{"type":"mrkdwn","text":"mine"},{"type":"plain_text","text":"{{a}}"}]},
	{"type":"section","text":{"type":"mrkdwn","text":"by {{a}}"},"fields":[{"type":"mrkdwn","text":"{{a | default:x}}"}]}]', '{"id":"evt_1","type":"x","data":{"object":{"a":"evil.example @here"}}}') -> 'blocks') b;
SELECT t.raises($$ SELECT stripe_sync.preview_message('x', '[{"type":"section","text":{"type":"mrkdwn","text":"{{a | b}}"}}]', '{"id":"evt_1","type":"x"}') $$);
SELECT jsonb_array_length(b) <= 50 AS blocks, length(b::text) <= 13300 AS characters FROM (SELECT stripe_sync.preview_message('x', t.many(2000, '{{a}}{{a}}{{a}}'), jsonb_build_object('id', 'evt_1', 'type', 'x', 'data', jsonb_build_object('object', jsonb_build_object('a', repeat('<', 600))))) -> 'blocks' AS b) s;
