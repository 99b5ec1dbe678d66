"""temporary"""
import jax, jax.numpy as jnp
from aloe_jax.ops.attention import cap
from aloe_jax.ops.constants import MASKED
def paged_attention(query, keys, values, tables, start, *, scale, window, soft_cap):
    b,t,h,k=query.shape; g,p=keys.shape[1:3]
    kk=keys[tables].transpose(0,2,1,3,4).reshape(b,g,-1,k)
    vv=values[tables].transpose(0,2,1,3,4).reshape(b,g,-1,k)
    q=query.reshape(b,t,g,-1,k).transpose(0,2,3,1,4)
    s=jnp.einsum("bgrtk,bgck->bgrtc",q,kk,preferred_element_type=jnp.float32)*scale
    s=cap(s,soft_cap)
    pos=jnp.maximum(start,0)[:,None]+jnp.arange(t)
    d=pos[:,:,None]-jnp.arange(kk.shape[2])
    vis=d>=0
    if window is not None: vis&=d<window
    w=jax.nn.softmax(jnp.where(vis[:,None,None],s,MASKED),-1).astype(vv.dtype)
    o=jnp.einsum("bgrtc,bgck->bgrtk",w,vv)
    return o.transpose(0,3,1,2,4).reshape(query.shape)
