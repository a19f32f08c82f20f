"""English words that carry grammar rather than content; a last word of LAMBADA is none of them."""

from __future__ import annotations

_ARTICLES = "a an the this that these those such some any no every each either neither both all another other"
_PRONOUNS = (
    "i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers "
    "herself it its itself they them their theirs themselves one ones who whom whose which what whoever whatever"
)
_PREPOSITIONS = (
    "about above across after against along among around at before behind below beneath beside between beyond by down "
    "during for from in inside into like near of off on onto out outside over past per since than through to toward "
    "towards under until up upon with within without"
)
_CONJUNCTIONS = "and or but nor so yet if because although though unless while whereas whether as when where why how"
_AUXILIARIES = (
    "am is are was were be been being do does did doing done have has had having will would shall should can could may "
    "might must ought not isn't aren't wasn't weren't don't doesn't didn't haven't hasn't hadn't won't wouldn't shan't "
    "shouldn't can't cannot couldn't mustn't i'm i've i'll i'd you're you've you'll you'd he's he'll he'd she's she'll "
    "she'd it's it'll we're we've we'll we'd they're they've they'll they'd that's there's what's who's let's"
)
_ADVERBS = (
    "again also always even ever here just more most much never now once only own quite rather same still then there "
    "too very well few many several less least"
)

STOP_WORDS = frozenset(" ".join((_ARTICLES, _PRONOUNS, _PREPOSITIONS, _CONJUNCTIONS, _AUXILIARIES, _ADVERBS)).split())
